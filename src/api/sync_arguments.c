/*
 * sync_arguments.c
 *	  What the calls that begin a sync check alike.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "api/sync_arguments.h"

/* Modes, and how much they do: auto may turn out to be a delta. */
static const struct
{
	const char *name;
	int strength;
} modes[] = {{"auto", 1}, {"delta", 1}, {"full", 2}, {"force", 3}};

char *
pfa_sync_organization_argument(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* 0: no such mode. */
static int
strength(const char *mode)
{
	for (int i = 0; i < (int) lengthof(modes); i++)
	{
		if (strcmp(modes[i].name, mode) == 0)
			return modes[i].strength;
	}
	return 0;
}

char *
pfa_sync_mode_argument(FunctionCallInfo fcinfo, int arg)
{
	char *mode;

	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("mode must not be null")));
	mode = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (strength(mode) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode \"%s\"", mode),
				 errdetail("Modes of a sync are: auto, delta, full, force.")));
	return mode;
}

void
pfa_sync_check_writable(const char *call)
{
	if (RecoveryInProgress())
		ereport(
			ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute %s during recovery", call),
			 errhint(
				 "Syncs run on the primary; the mirror arrives here by replication.")));
	PreventCommandIfReadOnly(call);
	PreventCommandIfParallelMode(call);
}

void
pfa_sync_check_request(const PfaRequest *request, const char *organization_id)
{
	switch (request->outcome)
	{
		case PFA_REQUEST_NEW:
		case PFA_REQUEST_PRESENT:
			break;
		case PFA_REQUEST_UNKNOWN:
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("organization \"%s\" does not exist",
							organization_id),
					 errhint("Organizations are listed in pfa_sync_status.")));
			break;
		case PFA_REQUEST_PAUSED:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("organization \"%s\" is paused", organization_id),
					 errhint("Call pfa_resume_organization() first.")));
			break;
		case PFA_REQUEST_COPY:
			ereport(
				ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(
					 "organization \"%s\" is not synced, because this database is a copy",
					 organization_id),
				 errhint(
					 "If this database is to sync from now on, call pfa_adopt_database().")));
			break;
	}
}

void
pfa_sync_note_weaker(const PfaRequest *request, const char *organization_id,
					 const char *mode)
{
	if (request->outcome != PFA_REQUEST_PRESENT ||
		strength(mode) <= strength(request->mode))
		return;
	ereport(
		NOTICE,
		(errmsg("organization \"%s\" is being synced in mode \"%s\" already",
				organization_id, request->mode),
		 errhint("Ask for mode \"%s\" again when run %lld has ended.", mode,
				 (long long) request->run_id)));
}
