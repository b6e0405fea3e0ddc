/*
 * spi.c
 *	  The one way statements on our tables are run.
 *
 * Each runs with search_path pinned, so that no operator or function of
 * somebody else is called, and as the extension's owner: callers hold the
 * right to call a function, not to touch its tables, and a trigger that
 * somebody put on a table of ours never runs with a worker's superuser rights.
 *
 * Plans are kept for the life of the process under the address of the constant
 * text, so that a look-up hashes eight bytes.  A plan is made again when the
 * schema has another name than the one it was written with, when the extension
 * was created anew, and when the address turns out to hold another text or to
 * be used with other parameters; anything else invalidates it by itself.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/extension.h"
#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

#define SCHEMA_MARK "@.@."

typedef struct KeptPlan
{
	const char *text; /* hash key: the address */
	char *copy;       /* what was there */
	char *schema;     /* quoted, as written into the plan */
	Oid extension;
	SPIPlanPtr plan; /* NULL: not made yet */
} KeptPlan;

/*
 * A statement between execute and finish.  It lives in SPI's procedure
 * context, so an error that destroys that context takes it off the chain.
 */
typedef struct SpiCall
{
	struct SpiCall *outer;
	int guc_level;
	Oid user;
	int security;
	bool pushed_snapshot;
	MemoryContextCallback callback;
} SpiCall;

static struct
{
	HTAB *plans;
	SpiCall *call;
} spi;

static void
forget_call(void *arg)
{
	SpiCall *call = arg;

	if (spi.call == call)
		spi.call = call->outer;
}

static KeptPlan *
find_plan(const char *text)
{
	KeptPlan *kept;
	bool found;

	if (spi.plans == NULL)
	{
		HASHCTL ctl = {0};

		ctl.keysize = sizeof(char *);
		ctl.entrysize = sizeof(KeptPlan);
		/* Plans are kept as long as the process, so their table is too. */
		ctl.hcxt = TopMemoryContext;
		spi.plans = hash_create("pfa_vanguard plans", 64, &ctl,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	kept = hash_search(spi.plans, &text, HASH_ENTER, &found);
	if (!found)
	{
		kept->copy = NULL;
		kept->schema = NULL;
		kept->extension = InvalidOid;
		kept->plan = NULL;
	}
	return kept;
}

static char *
write_schema(const char *text, const char *schema)
{
	StringInfoData sql;
	const char *mark;

	initStringInfo(&sql);
	while ((mark = strstr(text, SCHEMA_MARK)) != NULL)
	{
		appendBinaryStringInfo(&sql, text, mark - text);
		appendStringInfo(&sql, "%s.", schema);
		text = mark + strlen(SCHEMA_MARK);
	}
	appendStringInfoString(&sql, text);
	return sql.data;
}

static bool
plan_fits(const KeptPlan *kept, const char *text, const char *schema,
		  Oid extension, int nargs, const Oid *argtypes)
{
	if (kept->plan == NULL || kept->extension != extension ||
		strcmp(kept->schema, schema) != 0 || strcmp(kept->copy, text) != 0 ||
		SPI_getargcount(kept->plan) != nargs)
		return false;
	for (int i = 0; i < nargs; i++)
	{
		if (SPI_getargtypeid(kept->plan, i) != argtypes[i])
			return false;
	}
	return true;
}

static void
drop_plan(KeptPlan *kept)
{
	SPIPlanPtr plan = kept->plan;

	kept->plan = NULL;
	if (plan == NULL)
		return;
	SPI_freeplan(plan);
	pfree(kept->copy);
	pfree(kept->schema);
}

static SPIPlanPtr
get_plan(const char *text, const PfaExtension *extension, int nargs,
		 const Oid *argtypes)
{
	KeptPlan *kept = find_plan(text);
	char *name = get_namespace_name(extension->schema);
	const char *schema;
	SPIPlanPtr plan;

	if (name == NULL)
		elog(ERROR, "cache lookup failed for schema %u", extension->schema);
	schema = quote_identifier(name);
	if (plan_fits(kept, text, schema, extension->oid, nargs, argtypes))
		return kept->plan;

	drop_plan(kept);
	plan = SPI_prepare(write_schema(text, schema), nargs,
					   unconstify(Oid *, argtypes));
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	/* Kept as long as the plan, which is kept as long as the process. */
	kept->copy = MemoryContextStrdup(TopMemoryContext, text);
	kept->schema = MemoryContextStrdup(TopMemoryContext, schema);
	kept->extension = extension->oid;
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan failed");
	kept->plan = plan;
	return plan;
}

static void
begin_call(const PfaExtension *extension)
{
	SpiCall *call;
	bool pushed = !ActiveSnapshotSet();

	/*
	 * Workers have none, and SPI would give a foreground sync one that belongs
	 * to the portal and outlives this call.
	 */
	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	call = palloc0(sizeof(SpiCall));
	call->outer = spi.call;
	call->pushed_snapshot = pushed;
	call->guc_level = NewGUCNestLevel();
	GetUserIdAndSecContext(&call->user, &call->security);
	call->callback.func = forget_call;
	call->callback.arg = call;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &call->callback);
	spi.call = call;

	SetUserIdAndSecContext(extension->owner,
						   call->security | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

uint64
pfa_spi_execute(const char *text, int nargs, const Oid *argtypes, Datum *values,
				const char *nulls, bool read_only)
{
	PfaExtension extension;
	SPIPlanPtr plan;
	int rc;

	if (!pfa_extension_read(&extension))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg(
				 "extension \"pfa_vanguard\" is not installed in this database"),
			 errhint("Run CREATE EXTENSION pfa_vanguard.")));
	begin_call(&extension);
	plan = get_plan(text, &extension, nargs, argtypes);
	rc = SPI_execute_plan(plan, values, nulls, read_only, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

void
pfa_spi_finish(void)
{
	SpiCall call = *spi.call;

	SPI_finish();
	Assert(spi.call == call.outer);
	AtEOXact_GUC(true, call.guc_level);
	SetUserIdAndSecContext(call.user, call.security);
	if (call.pushed_snapshot)
		PopActiveSnapshot();
}

uint64
pfa_spi_run(const char *text, int nargs, const Oid *argtypes, Datum *values,
			const char *nulls)
{
	uint64 n = pfa_spi_execute(text, nargs, argtypes, values, nulls, false);

	pfa_spi_finish();
	return n;
}

/* ---- results ---- */

Datum
pfa_spi_get_datum(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
						 isnull);
}

int64
pfa_spi_get_int64(uint64 row, int column)
{
	bool isnull;
	Datum value = pfa_spi_get_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

int
pfa_spi_get_int32(uint64 row, int column)
{
	bool isnull;
	Datum value = pfa_spi_get_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

bool
pfa_spi_get_bool(uint64 row, int column)
{
	bool isnull;
	Datum value = pfa_spi_get_datum(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

TimestampTz
pfa_spi_get_time(uint64 row, int column)
{
	bool isnull;
	Datum value = pfa_spi_get_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

char *
pfa_spi_get_text(MemoryContext ctx, uint64 row, int column)
{
	char *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
							  column);

	return text == NULL ? NULL : MemoryContextStrdup(ctx, text);
}

void
pfa_spi_set_text(Datum *values, char *nulls, int i, const char *text)
{
	nulls[i] = text == NULL ? 'n' : ' ';
	values[i] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}
