/*
 * screen.c
 *	  The write screen: one record read, changed, added or deleted.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

#define WRITES_SIZE 20000

static struct
{
	pthread_mutex_t lock;
	char *line[WRITES_SIZE];
	int64_t nlines;
} writes = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
sim_screen_log(SimBuf *out, int64_t n)
{
	int64_t i;

	pthread_mutex_lock(&writes.lock);
	if (n > WRITES_SIZE)
		n = WRITES_SIZE;
	for (i = writes.nlines > n ? writes.nlines - n : 0; i < writes.nlines; i++)
		sim_buf_puts(out, writes.line[i % WRITES_SIZE]);
	pthread_mutex_unlock(&writes.lock);
}

void
sim_screen_clear(void)
{
	int i;

	pthread_mutex_lock(&writes.lock);
	for (i = 0; i < WRITES_SIZE; i++)
	{
		free(writes.line[i]);
		writes.line[i] = NULL;
	}
	writes.nlines = 0;
	pthread_mutex_unlock(&writes.lock);
}

static void
log_write(const char *action, const char *org, const char *id,
		  const SimRecord *record)
{
	SimBuf buf = {0};
	char **slot;

	sim_buf_printf(&buf, "{\"action\":\"%s\",\"org\":", action);
	sim_buf_json(&buf, org, false);
	sim_buf_puts(&buf, ",\"id\":");
	sim_buf_json(&buf, id, false);
	sim_buf_printf(&buf, ",\"recordid\":%u,\"at\":%lld}\n", record->recordid,
				   (long long) record->modified);
	pthread_mutex_lock(&writes.lock);
	slot = &writes.line[writes.nlines++ % WRITES_SIZE];
	free(*slot);
	*slot = buf.data;
	pthread_mutex_unlock(&writes.lock);
}

/* By the screen's name, or the grid's: real screens have both. */
static int
screen_field_find(const char *name)
{
	int i;

	for (i = 0; i < SIM_NMAPPED; i++)
		if (sim_fields[i].screen && strcasecmp(sim_fields[i].screen, name) == 0)
			return i;
	return sim_field_find(name);
}

/* A value of any of the three kinds as the text sim_field_set takes. */
static bool
value_text(const SimJson *value, char *out, size_t size)
{
	const SimJson *numeric = sim_json_get(value, "NUMERICDATA");
	const SimJson *date = sim_json_get(value, "DATETIMEDATA");
	const char *text = sim_json_text(value, "TEXTDATA");

	out[0] = '\0';
	if (numeric && numeric->type == SIM_JSON_OBJECT)
	{
		int64_t n = sim_json_int(numeric, "VALUE", 0);
		int64_t decimals = sim_json_int(numeric, "NUMOFDEC", 0);
		const char *sign = sim_json_text(numeric, "SIGN");
		int64_t scaled;

		if (decimals < 0 || decimals > 6)
			return false;
		for (; decimals < 6; decimals++)
			if (__builtin_mul_overflow(n, 10, &n))
				return false;
		scaled = sign && *sign == '-' && n > 0 ? -n : n;
		sim_format_number(out, scaled, false);
	}
	else if (date && date->type == SIM_JSON_OBJECT)
	{
		int64_t ms = sim_json_int(date, "YEAR", 0);
		int64_t month = sim_json_int(date, "MONTH", 1);
		int64_t day = sim_json_int(date, "DAY", 1);
		int y;
		int m;
		int d;

		/* YEAR is the first instant of the year; tolerate nothing else */
		if (ms % 86400000 != 0)
			return false;
		sim_civil((int32_t) (ms / 86400000), &y, &m, &d);
		if (m != 1 || d != 1 || month < 1 || month > 12 || day < 1 || day > 31)
			return false;
		snprintf(out, size, "%04d-%02d-%02d", y, (int) month, (int) day);
	}
	else if (text)
	{
		if (strlen(text) >= size)
			return false;
		strcpy(out, text);
	}
	return true;
}

static void
add_number(SimBuf *out, int64_t value)
{
	int decimals = 6;
	int64_t n = value < 0 ? -value : value;

	for (; decimals > 0 && n % 10 == 0; decimals--)
		n /= 10;
	sim_buf_printf(out,
				   "{\"NUMERICDATA\":{\"VALUE\":%lld,\"NUMOFDEC\":%d,"
				   "\"SIGN\":\"%s\"}}",
				   (long long) n, decimals, value < 0 ? "-" : "+");
}

static void
add_date(SimBuf *out, int32_t days)
{
	int year;
	int month;
	int day;

	sim_civil(days, &year, &month, &day);
	sim_buf_printf(out,
				   "{\"DATETIMEDATA\":{\"YEAR\":%lld,\"MONTH\":%d,"
				   "\"DAY\":%d,\"HOUR\":0,\"MINUTE\":0,\"SECOND\":0,"
				   "\"SUBSECOND\":0,\"TIMEZONE\":\"+0000\","
				   "\"qualifier\":\"OTHER\"}}",
				   (long long) sim_days(year, 1, 1) * 86400000, month, day);
}

static void
add_pairs(SimBuf *out, const SimRecord *record, const char *org)
{
	SimBuf text = {0};
	const char *comma = "";
	int i;

	for (i = 0; i < SIM_NMAPPED; i++)
	{
		const SimField *f = &sim_fields[i];

		if (f->screen == NULL && f->kind != SIM_KIND_MODIFIED)
			continue;
		sim_buf_printf(out,
					   "%s{\"USERDEFINEDSCREENFIELDNAME\":\"%s\","
					   "\"USERDEFINEDSCREENFIELDVALUE\":",
					   comma, f->screen ? f->screen : "PFS_LASTMODIFIED");
		comma = ",";
		if (f->kind == SIM_KIND_NUMBER &&
			record->number[f->index] != SIM_NO_NUMBER)
			add_number(out, record->number[f->index]);
		else if (f->kind == SIM_KIND_DATE &&
				 record->date[f->index] != SIM_NO_DATE)
			add_date(out, record->date[f->index]);
		else
		{
			text.len = 0;
			sim_buf_puts(&text, "");
			sim_field_text(record, org, i, &text);
			sim_buf_puts(out, "{\"TEXTDATA\":");
			sim_buf_json(out, text.data, false);
			sim_buf_puts(out, "}");
		}
		sim_buf_puts(out, "}");
	}
	sim_buf_free(&text);
}

static enum MHD_Result
answer_record(SimRequest *request, const SimRecord *record, const char *org)
{
	SimBody *body = sim_body_create();
	SimBuf buf = {0};
	char stamp[40];

	sim_format_time(stamp, record->modified);
	sim_buf_puts(&buf,
				 "{\"Result\":{\"ResultData\":{"
				 "\"UserDefinedScreenService\":{"
				 "\"USERDEFINEDSCREENNAME\":\"CUPFA2\","
				 "\"USERDEFINEDSCREENFIELDVALUELIST\":{"
				 "\"USERDEFINEDSCREENFIELDVALUEPAIR\":[");
	add_pairs(&buf, record, org);
	sim_buf_printf(&buf,
				   "]},\"recordid\":%u,\"DATEUPDATED\":\"%s\"}}},"
				   "\"ErrorAlert\":[]}",
				   record->recordid, stamp);
	sim_body_own(body, &buf);
	return sim_answer(request, 200, "application/json", body);
}

/* Put the request's pairs into the record; NULL, or what is wrong. */
static const char *
apply_pairs(SimRecord *record, const SimJson *pairs)
{
	static _Thread_local char error[200];
	const SimJson *pair;

	for (pair = pairs ? pairs->child : NULL; pair; pair = pair->next)
	{
		const char *name = sim_json_text(pair, "USERDEFINEDSCREENFIELDNAME");
		const SimJson *value = sim_json_get(pair,
											"USERDEFINEDSCREENFIELDVALUE");
		int field = name ? screen_field_find(name) : -1;
		char text[4000];

		if (field < 0)
		{
			snprintf(error, sizeof(error), "%.60s is not a valid field",
					 name ? name : "");
			return error;
		}
		if (sim_fields[field].kind == SIM_KIND_ID ||
			sim_fields[field].kind == SIM_KIND_ORG ||
			sim_fields[field].kind == SIM_KIND_MODIFIED ||
			sim_fields[field].kind == SIM_KIND_FILLER)
			continue;
		if (!value_text(value, text, sizeof(text)) ||
			!sim_field_set(record, field, text))
		{
			snprintf(error, sizeof(error),
					 "The value of %.60s is not a valid value", name);
			return error;
		}
	}
	return NULL;
}

static const char *
pair_text(const SimJson *pairs, const char *name)
{
	const SimJson *pair;

	for (pair = pairs ? pairs->child : NULL; pair; pair = pair->next)
	{
		const char *found = sim_json_text(pair, "USERDEFINEDSCREENFIELDNAME");

		if (found && strcasecmp(found, name) == 0)
			return sim_json_text(sim_json_get(pair,
											  "USERDEFINEDSCREENFIELDVALUE"),
								 "TEXTDATA");
	}
	return NULL;
}

/*
 * Carry out one action with the writer's lock held; NULL, or what is wrong.
 * *record is the record as it is afterwards, or was before its deletion.
 */
static const char *
perform(SimOrg *org, const char *action, const char *id, const SimJson *pairs,
		SimRecord *record)
{
	const SimRecord *old = sim_listing_find(org->listing, id);
	SimEdit edit = {0};
	const char *error;

	if (strcmp(action, "ADD") == 0)
	{
		if (old)
			return "Record already exists";
		sim_blank(&edit.record, id, ++org->last_serial);
	}
	else if (old == NULL)
		return "Record not found";
	else
		edit.record = *old;
	*record = edit.record;
	if (strcmp(action, "GET") == 0)
		return NULL;
	edit.remove = strcmp(action, "DELETE") == 0;
	error = edit.remove ? NULL : apply_pairs(&edit.record, pairs);
	if (error)
		return error;
	edit.record.modified = sim_data_tick();
	edit.record.recordid++;
	*record = edit.record;
	sim_data_apply(org, &edit, 1);
	log_write(action, org->name, id, record);
	return NULL;
}

static bool
known_action(const char *action)
{
	return action &&
		(strcmp(action, "GET") == 0 || strcmp(action, "UPDATE") == 0 ||
		 strcmp(action, "ADD") == 0 || strcmp(action, "DELETE") == 0);
}

enum MHD_Result
sim_screen_request(SimRequest *request)
{
	const SimJson *json = request->json;
	const char *action = sim_json_text(json, "USERDEFINEDSERVICEACTION");
	const SimJson *pairs =
		sim_json_get(sim_json_get(json, "USERDEFINEDSCREENFIELDVALUELIST"),
					 "USERDEFINEDSCREENFIELDVALUEPAIR");
	const char *id = pair_text(pairs, "PFS_ID");
	const char *name = pair_text(pairs, "PFS_A_ORG");
	const char *error;
	SimOrg *org;
	SimRecord record;
	enum MHD_Result result;

	request->on = action && strcmp(action, "GET") == 0 ? SIM_ON_GET :
														 SIM_ON_WRITE;
	snprintf(request->org, sizeof(request->org), "%s",
			 name ? name : request->header_org);
	snprintf(request->filter, sizeof(request->filter), "%s %s",
			 action ? action : "", id ? id : "");
	if (sim_answer_fault(request, &result))
		return result;
	if (!known_action(action))
		return sim_answer_alert(request, 400,
								"The action is not a valid "
								"action",
								"INVALID_REQUEST");
	org = sim_org_find(request->org);
	if (org == NULL || id == NULL)
		return sim_answer_alert(request, 200, "Record not found", "NOT_FOUND");
	pthread_mutex_lock(&sim_data.lock);
	error = perform(org, action, id, pairs, &record);
	pthread_mutex_unlock(&sim_data.lock);
	if (error)
		return sim_answer_alert(request, 200, error, "SCREEN_ERROR");
	if (request->strike.on[SIM_FAULT_APPLIED_CUT])
	{
		/* PEMS has it, the client does not know */
		request->strike.on[SIM_FAULT_CUT] = true;
		request->strike.fault[SIM_FAULT_CUT].bytes = 0;
	}
	return answer_record(request, &record, org->name);
}
