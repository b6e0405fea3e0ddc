/*
 * organization_api.c
 *	  Organizations: add, remove, pause, resume, adopt.
 *
 * Everything is checked when an organization is added, as far as that is
 * possible without asking PEMS, so that a wrong server, a missing user mapping
 * or a forbidden host is told to who can mend it and not to a worker's log.
 *
 * Lock order: the organization's row, then its runs, then the rest.  Nobody is
 * waited for: a sync that runs while its organization is removed is told to
 * stop, and what it may still commit until it looks is cleared away when an
 * organization of that name is added again.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/mv_change.h"
#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"
#include "metrics/counters.h"
#include "pems/source.h"
#include "registry.h"

#define WRAPPER_NAME "pfa_pems"

#define MIN_INTERVAL_SECONDS 10
#define MAX_INTERVAL_DAYS    30

PG_FUNCTION_INFO_V1(pfa_adopt_database);

/* ---- checks ---- */

static void
check_not_null(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

/*
 * Names go into shared memory, process titles and log lines: bounded, and
 * without control characters.
 */
static void
check_name(const char *what, const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= PFA_ORGANIZATION_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be 1 to %d bytes long", what,
						PFA_ORGANIZATION_LEN - 1),
				 errdetail("It is %zu bytes long.", len)));
	for (const char *p = name; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain control characters", what),
					 errdetail("Byte %d is 0x%02x.", (int) (p - name) + 1,
							   (unsigned char) *p)));
	}
}

static void
check_interval(const Interval *interval)
{
	/* In floating point: an interval may be longer than int64 microseconds. */
	double seconds = interval->time / (double) USECS_PER_SEC +
		((double) interval->day + (double) interval->month * DAYS_PER_MONTH) *
			SECS_PER_DAY;

	if (seconds < MIN_INTERVAL_SECONDS ||
		seconds > (double) MAX_INTERVAL_DAYS * SECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sync_interval must be between %d seconds and %d days",
						MIN_INTERVAL_SECONDS, MAX_INTERVAL_DAYS)));
}

/* The server by its name, if the caller may use it as a source. */
static ForeignServer *
check_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	ForeignDataWrapper *wrapper;

	if (server == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("server \"%s\" does not exist", name),
			 errhint(
				 "Create it with CREATE SERVER ... FOREIGN DATA WRAPPER %s.",
				 WRAPPER_NAME)));
	wrapper = GetForeignDataWrapper(server->fdwid);
	if (strcmp(wrapper->fdwname, WRAPPER_NAME) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a PEMS server", name),
				 errdetail("Its foreign-data wrapper is \"%s\".",
						   wrapper->fdwname),
				 errhint("Create a server with FOREIGN DATA WRAPPER %s.",
						 WRAPPER_NAME)));
	if (!DatumGetBool(DirectFunctionCall2(has_server_privilege_id,
										  ObjectIdGetDatum(server->serverid),
										  CStringGetTextDatum("USAGE"))))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, name);
	return server;
}

static bool
mapping_exists(Oid role, Oid server_oid)
{
	return SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
								 ObjectIdGetDatum(server_oid));
}

static void
check_mapping(const ForeignServer *server)
{
	if (mapping_exists(GetUserId(), server->serverid) ||
		mapping_exists(InvalidOid, server->serverid))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_UNDEFINED_OBJECT),
		 errmsg("role \"%s\" has no user mapping for server \"%s\"",
				GetUserNameFromId(GetUserId(), false), server->servername),
		 errhint(
			 "Create one with CREATE USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (username '...', password_file '...').",
			 quote_identifier(server->servername))));
}

/* ---- rows ---- */

static uint64
run_for_organization(const char *text, const char *organization_id)
{
	Oid argtypes[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(organization_id)};

	return pfa_spi_run(text, 1, argtypes, values, NULL);
}

/* Lock the organization's row, so that of two changes one comes first. */
static void
lock_organization(const char *organization_id)
{
	if (run_for_organization("SELECT 1 FROM @.@.pfa_organization "
							 "WHERE organization_id = $1 FOR UPDATE",
							 organization_id) > 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("organization \"%s\" does not exist", organization_id),
			 errhint("Organizations are listed in pfa_sync_status.")));
}

static void
insert_organization(const char *organization_id, const char *server_name,
					const char *pems_organization, Datum sync_interval)
{
	Oid argtypes[7] = {TEXTOID,     TEXTOID, TEXTOID, TEXTOID,
					   INTERVALOID, INT8OID, OIDOID};
	Datum values[7];

	values[0] = CStringGetTextDatum(organization_id);
	values[1] = CStringGetTextDatum(pems_organization);
	values[2] = CStringGetTextDatum(server_name);
	values[3] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[4] = sync_interval;
	values[5] = Int64GetDatum((int64) GetSystemIdentifier());
	values[6] = ObjectIdGetDatum(MyDatabaseId);
	if (pfa_spi_run("INSERT INTO @.@.pfa_organization "
					"(organization_id, pems_organization, server_name, owner, "
					"sync_interval, system_identifier, database_oid) "
					"VALUES ($1, $2, $3::name, $4::name, $5, $6, $7) "
					"ON CONFLICT (organization_id) DO NOTHING",
					7, argtypes, values, NULL) == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("organization \"%s\" already exists", organization_id),
			 errhint(
				 "Remove it with pfa_remove_organization first, if it is to be read from elsewhere.")));
}

/* What a sync left behind, the mirror included; history stays. */
static void
delete_rows(const char *organization_id)
{
	(void) run_for_organization("DELETE FROM @.@.pfa_mirror "
								"WHERE organization_id = $1",
								organization_id);
	(void) run_for_organization("DELETE FROM @.@.pfa_rejected_record "
								"WHERE organization_id = $1",
								organization_id);
	(void) run_for_organization("DELETE FROM @.@.pfa_sync_state "
								"WHERE organization_id = $1",
								organization_id);
}

/* What its users did and may do.  Drafts that nobody has committed go, too. */
static void
delete_users_rows(const char *organization_id)
{
	(void) run_for_organization("DELETE FROM @.@.pfa_conflict "
								"WHERE organization_id = $1",
								organization_id);
	(void) run_for_organization("DELETE FROM @.@.pfa_modification "
								"WHERE organization_id = $1",
								organization_id);
	(void) run_for_organization("DELETE FROM @.@.pfa_user_organization "
								"WHERE organization_id = $1",
								organization_id);
}

/* Cancel the organization's queued run, if it has one. */
static void
cancel_queued(const char *organization_id, const char *error)
{
	Oid argtypes[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {CStringGetTextDatum(organization_id),
					   CStringGetTextDatum(error)};
	int64 run_id = 0;

	if (pfa_spi_execute("UPDATE @.@.pfa_sync_run "
						"SET status = 'cancelled', error = $2, "
						"finished_at = pg_catalog.clock_timestamp() "
						"WHERE organization_id = $1 AND status = 'queued' "
						"AND direction = 'read' RETURNING run_id",
						2, argtypes, values, NULL, false) > 0)
		run_id = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	if (run_id != 0)
		pfa_page_forget(run_id);
}

/*
 * Cancel the organization's running run, if it has one.  The flag takes effect
 * at once, whether this transaction commits or not; the row is written too, so
 * that a run whose process died is not taken up again.
 */
static void
cancel_running(const char *organization_id, const char *error)
{
	Oid argtypes[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {CStringGetTextDatum(organization_id),
					   CStringGetTextDatum(error)};
	int64 run_id = 0;

	if (pfa_spi_execute("SELECT run_id FROM @.@.pfa_sync_run "
						"WHERE organization_id = $1 AND status = 'running' "
						"AND direction = 'read'",
						1, argtypes, values, NULL, false) > 0)
		run_id = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	if (run_id == 0)
		return;

	(void) pfa_slot_cancel(run_id);
	(void) pfa_spi_run("UPDATE @.@.pfa_sync_run "
					   "SET status = 'cancelled', error = $2, "
					   "finished_at = pg_catalog.clock_timestamp() "
					   "WHERE organization_id = $1 AND status = 'running' "
					   "AND direction = 'read'",
					   2, argtypes, values, NULL);
	pfa_page_forget(run_id);
}

static void
report(const char *organization_id, const char *code, const char *message)
{
	pfa_event_write(LOG, "api", organization_id, 0, code, message, NULL);
}

/* ---- SQL calls ---- */

/*
 * pfa_add_organization(organization_id text, server name,
 *						pems_organization text, sync_interval interval)
 */
PFA_API_FUNCTION(pfa_add_organization, PFA_ENDPOINT_ADD_ORGANIZATION)
{
	char *organization_id;
	char *pems_organization;
	ForeignServer *server;

	check_not_null(fcinfo, 0, "organization_id");
	check_not_null(fcinfo, 1, "server");
	check_not_null(fcinfo, 3, "sync_interval");
	organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	pems_organization = PG_ARGISNULL(2) ? organization_id :
										  text_to_cstring(PG_GETARG_TEXT_PP(2));
	check_name("organization_id", organization_id);
	check_name("pems_organization", pems_organization);
	check_interval(PG_GETARG_INTERVAL_P(3));
	server = check_server(NameStr(*PG_GETARG_NAME(1)));
	check_mapping(server);

	insert_organization(organization_id, server->servername, pems_organization,
						PG_GETARG_DATUM(3));
	delete_rows(organization_id);

	/* Host, credentials and their origin: as a worker will see them. */
	pfa_source_wipe(pfa_source_load(server->serverid, GetUserId()));

	report(organization_id, "organization_added",
		   psprintf("organization \"%s\" was added", organization_id));
	pfa_wake_scheduler_at_commit();
	PG_RETURN_VOID();
}

/* pfa_remove_organization(organization_id text), strict */
PFA_API_FUNCTION(pfa_remove_organization, PFA_ENDPOINT_REMOVE_ORGANIZATION)
{
	char *organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));

	lock_organization(organization_id);
	cancel_queued(organization_id, "organization was removed");
	cancel_running(organization_id, "organization was removed");
	delete_rows(organization_id);
	delete_users_rows(organization_id);
	(void) run_for_organization("DELETE FROM @.@.pfa_field_mapping "
								"WHERE organization_id = $1",
								organization_id);
	(void) run_for_organization("DELETE FROM @.@.pfa_organization "
								"WHERE organization_id = $1",
								organization_id);
	report(organization_id, "organization_removed",
		   psprintf("organization \"%s\" was removed", organization_id));
	pfa_mv_request_refresh();
	pfa_wake_scheduler_at_commit();
	PG_RETURN_VOID();
}

/*
 * pfa_pause_organization(organization_id text), strict
 *
 * A sync that runs already ends as if nothing had been said: stopping it is
 * pfa_sync_cancel's business.  A queued one is cancelled.
 */
PFA_API_FUNCTION(pfa_pause_organization, PFA_ENDPOINT_PAUSE_ORGANIZATION)
{
	char *organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));

	lock_organization(organization_id);
	if (run_for_organization("UPDATE @.@.pfa_organization SET paused = true "
							 "WHERE organization_id = $1 AND NOT paused",
							 organization_id) > 0)
		report(organization_id, "organization_paused",
			   psprintf("organization \"%s\" was paused", organization_id));
	cancel_queued(organization_id, "organization was paused");
	pfa_wake_scheduler_at_commit();
	PG_RETURN_VOID();
}

/* pfa_resume_organization(organization_id text), strict */
PFA_API_FUNCTION(pfa_resume_organization, PFA_ENDPOINT_RESUME_ORGANIZATION)
{
	char *organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));

	lock_organization(organization_id);
	if (run_for_organization("UPDATE @.@.pfa_organization SET paused = false "
							 "WHERE organization_id = $1 AND paused",
							 organization_id) > 0)
		report(organization_id, "organization_resumed",
			   psprintf("organization \"%s\" was resumed", organization_id));
	pfa_wake_scheduler_at_commit();
	PG_RETURN_VOID();
}

/*
 * pfa_adopt_database() returns integer
 *
 * Say that this database, a copy, is from now on the one that works on its
 * organizations.  Returns how many were stamped anew.
 */
Datum
pfa_adopt_database(PG_FUNCTION_ARGS)
{
	Oid argtypes[2] = {INT8OID, OIDOID};
	Datum values[2] = {Int64GetDatum((int64) GetSystemIdentifier()),
					   ObjectIdGetDatum(MyDatabaseId)};
	uint64 n;

	n = pfa_spi_run("UPDATE @.@.pfa_organization "
					"SET system_identifier = $1, database_oid = $2 "
					"WHERE system_identifier <> $1 OR database_oid <> $2",
					2, argtypes, values, NULL);
	if (n > 0)
		report(NULL, "database_adopted",
			   "this database was adopted as the one that syncs");
	pfa_wake_scheduler_at_commit();
	PG_RETURN_INT32((int32) n);
}
