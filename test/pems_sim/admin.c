/*
 * admin.c
 *	  What tests use to steer the simulator and to ask what is true.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static enum MHD_Result
answer_buf(SimRequest *request, int status, SimBuf *buf)
{
	SimBody *body = sim_body_create();

	sim_body_own(body, buf);
	return sim_answer(request, status, "application/json", body);
}

static enum MHD_Result
answer_error(SimRequest *request, const char *error)
{
	SimBuf buf = {0};

	sim_buf_puts(&buf, "{\"error\":");
	sim_buf_json(&buf, error, false);
	sim_buf_puts(&buf, "}\n");
	return answer_buf(request, 400, &buf);
}

static enum MHD_Result
answer_count(SimRequest *request, const char *what, int64_t count)
{
	SimBuf buf = {0};

	sim_buf_printf(&buf, "{\"%s\":%lld}\n", what, (long long) count);
	return answer_buf(request, 200, &buf);
}

static const char *
argument(void *arg, const char *name)
{
	return sim_query(arg, name);
}

static int64_t
number(SimRequest *request, const char *name, int64_t missing)
{
	const char *text = sim_query(request, name);

	return text && *text ? strtoll(text, NULL, 10) : missing;
}

static double
fraction(SimRequest *request)
{
	const char *text = sim_query(request, "fraction");

	return text ? atof(text) : 0;
}

static SimOrg *
asked_org(SimRequest *request)
{
	const char *name = sim_query(request, "org");

	return name ? sim_org_find(name) : NULL;
}

typedef struct SetState
{
	const char *error;
	int nset;
} SetState;

static enum MHD_Result
set_one(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	SetState *state = arg;

	(void) kind;
	state->error = sim_setting_apply(name, value ? value : "");
	state->nset++;
	return state->error ? MHD_NO : MHD_YES;
}

static enum MHD_Result
admin_set(SimRequest *request)
{
	SetState state = {0};
	SimBuf buf = {0};

	MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND,
							  set_one, &state);
	if (state.error)
		return answer_error(request, state.error);
	sim_settings_json(&buf);
	return answer_buf(request, 200, &buf);
}

static enum MHD_Result
admin_fault(SimRequest *request)
{
	int id = 0;
	const char *error = sim_fault_add(argument, request, &id);

	return error ? answer_error(request, error) :
				   answer_count(request, "fault", id);
}

/* One field of one record, or new values for some records. */
static enum MHD_Result
admin_change(SimRequest *request, SimOrg *org)
{
	const char *id = sim_query(request, "id");
	const char *field = sim_query(request, "field");
	const char *value = sim_query(request, "value");
	const SimRecord *record;
	const char *error = NULL;
	SimEdit edit = {0};
	int f;

	if (id == NULL)
		return answer_count(request, "changed",
							sim_data_change(org, fraction(request),
											number(request, "count", 0), -1,
											number(request, "backdate_ms", 0)));
	f = field ? sim_field_find(field) : -1;
	if (f < 0)
		return answer_error(request, "unknown field");
	pthread_mutex_lock(&sim_data.lock);
	record = sim_listing_find(org->listing, id);
	if (record == NULL)
		error = "unknown record";
	else
	{
		edit.record = *record;
		edit.record.modified = sim_data_tick();
		edit.record.recordid++;
		if (!sim_field_set(&edit.record, f, value ? value : ""))
			error = "not a value of this field";
		else
			sim_data_apply(org, &edit, 1);
	}
	pthread_mutex_unlock(&sim_data.lock);
	return error ? answer_error(request, error) :
				   answer_count(request, "changed", 1);
}

/* ndjson of all records: the mirror's form, or what cannot be mapped. */
static enum MHD_Result
admin_records(SimRequest *request, SimOrg *org, bool rejects)
{
	SimListing *listing = sim_org_listing(org);
	SimBuf buf = {0};
	const char *only = sim_query(request, "id");
	int b;
	int r;

	sim_buf_puts(&buf, "");
	for (b = 0; b < listing->nblocks; b++)
		for (r = 0; r < listing->blocks[b]->nrows; r++)
		{
			const SimRecord *record = &listing->blocks[b]->records[r];

			if ((record->bad != 0) != rejects ||
				(only && strcmp(only, record->id) != 0))
				continue;
			if (rejects)
				sim_buf_printf(&buf, "{\"pfaId\":\"%s\",\"reason\":\"%s\"}\n",
							   record->id,
							   record->bad == 1 ?
								   "bad date in pfs_f_startdate" :
								   "bad number in pfs_f_rental");
			else
				sim_canonical(&buf, record, org->name);
		}
	sim_listing_release(listing);
	return answer_buf(request, 200, &buf);
}

static enum MHD_Result
admin_orgs(SimRequest *request)
{
	SimBuf buf = {0};
	int i;

	sim_buf_puts(&buf, "{");
	for (i = 0; i < sim_data.norgs; i++)
	{
		SimListing *listing = sim_org_listing(sim_data.orgs[i]);

		sim_buf_puts(&buf, i ? "," : "");
		sim_buf_json(&buf, sim_data.orgs[i]->name, false);
		sim_buf_printf(&buf, ":%lld", (long long) listing->nrows);
		sim_listing_release(listing);
	}
	sim_buf_puts(&buf, "}\n");
	return answer_buf(request, 200, &buf);
}

/* Paths about one organization. */
static enum MHD_Result
admin_org_request(SimRequest *request, const char *path)
{
	SimOrg *org = asked_org(request);

	if (strcmp(path, "org") == 0)
	{
		const char *name = sim_query(request, "org");

		if (name == NULL || org ||
			sim_org_create(name, number(request, "rows", 0)) == NULL)
			return answer_error(request, "cannot create the organization");
		return answer_count(request, "rows", number(request, "rows", 0));
	}
	if (org == NULL)
		return answer_error(request, "unknown path or organization");
	if (strcmp(path, "change") == 0)
		return admin_change(request, org);
	if (strcmp(path, "insert") == 0)
		return answer_count(request, "inserted",
							sim_data_insert(org, number(request, "count", 1),
											number(request, "scattered", 0),
											-1));
	if (strcmp(path, "delete") == 0)
		return answer_count(request, "deleted",
							sim_data_delete(org, fraction(request),
											number(request, "count", 0), -1,
											sim_query(request, "id")));
	if (strcmp(path, "canonical") == 0)
		return admin_records(request, org, false);
	if (strcmp(path, "rejects") == 0)
		return admin_records(request, org, true);
	return answer_error(request, "unknown path");
}

enum MHD_Result
sim_admin_request(SimRequest *request, const char *path)
{
	SimBuf buf = {0};

	sim_buf_puts(&buf, "");
	if (strcmp(path, "set") == 0)
		return admin_set(request);
	if (strcmp(path, "fault") == 0)
		return admin_fault(request);
	if (strcmp(path, "clear") == 0)
	{
		int n = sim_faults_clear(sim_query(request, "kind"),
								 sim_query(request, "org"),
								 (int) number(request, "id", 0));

		sim_server_wake();
		return answer_count(request, "cleared", n);
	}
	if (strcmp(path, "orgs") == 0)
		return admin_orgs(request);
	if (strcmp(path, "stats") == 0)
		sim_server_stats(&buf, number(request, "reset", 0) != 0);
	else if (strcmp(path, "log") == 0)
		sim_server_log(&buf, number(request, "n", 100));
	else if (strcmp(path, "faults") == 0)
		sim_faults_json(&buf);
	else if (strcmp(path, "writes") == 0)
	{
		sim_screen_log(&buf, number(request, "n", 1000));
		if (number(request, "reset", 0))
			sim_screen_clear();
	}
	else
		return admin_org_request(request, path);
	return answer_buf(request, 200, &buf);
}
