/*
 * source_api.c
 *	  SQL functions on sources: the wrapper's validator, credentials, a test.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#include "catalog/pfa_catalog.h"
#include "catalog/schedule.h"
#include "catalog/source.h"
#include "guc.h"
#include "metrics/counters.h"
#include "pems/grid.h"
#include "pems/source.h"
#include "pems/source_options.h"
#include "registry.h"

PG_FUNCTION_INFO_V1(pfa_pems_validator);
PG_FUNCTION_INFO_V1(pfa_set_credentials);
PG_FUNCTION_INFO_V1(pfa_bind_credentials);

#define TEST_COLUMNS 4

Datum
pfa_pems_validator(PG_FUNCTION_ARGS)
{
	List *options = untransformRelOptions(PG_GETARG_DATUM(0));

	pfa_source_options_check(PG_GETARG_OID(1), options, pfa_source_notices());
	PG_RETURN_VOID();
}

/* What ProcessUtility checks for a command, for one that does not pass it. */
static void
prevent_where_read_only(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	PreventCommandDuringRecovery(function);
}

/* What failed for want of credentials is tried again soon. */
static void
retry_syncs(const char *server)
{
	if (pfa_schedule_credentials_changed(server) > 0)
		pfa_wake_scheduler_at_commit();
}

Datum
pfa_set_credentials(PG_FUNCTION_ARGS)
{
	char *server;
	char *username;
	char *secret;
	Oid role = GetUserId();

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("server, username and secret must not be null"),
					 errhint("To remove credentials, use DROP USER MAPPING.")));
	}
	prevent_where_read_only("pfa_set_credentials()");
	server = NameStr(*PG_GETARG_NAME(0));
	username = text_to_cstring(PG_GETARG_TEXT_PP(1));
	secret = text_to_cstring(PG_GETARG_TEXT_PP(2));

	pfa_source_set_credentials(pfa_source_server(server, role), role, username,
							   secret);
	explicit_bzero(secret, strlen(secret));
	retry_syncs(server);
	PG_RETURN_VOID();
}

Datum
pfa_bind_credentials(PG_FUNCTION_ARGS)
{
	char *server = NameStr(*PG_GETARG_NAME(0));
	Oid role = GetUserId();

	prevent_where_read_only("pfa_bind_credentials()");
	pfa_source_bind(pfa_source_server(server, role), role);
	retry_syncs(server);
	PG_RETURN_VOID();
}

/*
 * Ask once, and tell what came of it.  The request runs in the caller's
 * transaction, whose snapshot is held meanwhile: at most the source's timeout.
 */
static bool
ask_source(PfaSource *source, double *latency_ms, int64 *count, char **message)
{
	PfaGridClient *client;
	PfaMapping *mapping;
	uint64 hash;
	instr_time start;
	instr_time duration;
	bool ok;

	mapping = pfa_mapping_load(CurrentMemoryContext, "", &hash);
	client = pfa_grid_client_create(CurrentMemoryContext, source, mapping, "");
	pfa_source_wipe(source);

	INSTR_TIME_SET_CURRENT(start);
	ok = pfa_grid_count(client, count, message);
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	*latency_ms = INSTR_TIME_GET_MILLISEC(duration);
	pfa_grid_client_free(client);
	return ok;
}

PFA_API_FUNCTION(pfa_test_source, PFA_ENDPOINT_TEST_SOURCE)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char *server = NameStr(*PG_GETARG_NAME(0));
	Oid role = GetUserId();
	Datum values[TEST_COLUMNS] = {0};
	bool nulls[TEST_COLUMNS] = {0};
	double latency_ms = 0;
	int64 count = -1;
	char *message = NULL;
	PfaSource *source;
	bool ok;

	if (!pfa_guc_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("requests to PEMS are switched off"),
				 errhint("Set pfa_vanguard.enabled to on.")));
	InitMaterializedSRF(fcinfo, 0);

	source = pfa_source_peek(pfa_source_server(server, role), role);
	ok = ask_source(source, &latency_ms, &count, &message);

	values[0] = BoolGetDatum(ok);
	values[1] = Float8GetDatum(latency_ms);
	nulls[2] = !ok || count < 0;
	if (!nulls[2])
		values[2] = Int64GetDatum(count);
	nulls[3] = ok || message == NULL;
	if (!nulls[3])
		values[3] = CStringGetTextDatum(message);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
