/*
 * modification.c
 *	  Writing pfa_modification.
 *
 * A draft is one row a user and record, which the unique index
 * pfa_modification_draft guarantees.  Its state is the only thing that commit,
 * discard and draft have to agree on: each locks the row first, and the one
 * that comes second finds it committed, gone, or as the first has left it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/modification.h"
#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

static Jsonb *
get_jsonb(MemoryContext ctx, uint64 row, int column)
{
	bool isnull;
	Datum value = pfa_spi_get_datum(row, column, &isnull);
	MemoryContext spi = MemoryContextSwitchTo(ctx);
	Jsonb *copy = isnull ? NULL : DatumGetJsonbPCopy(value);

	MemoryContextSwitchTo(spi);
	return copy;
}

/* Columns modification_id, version, pfa_id, and what goes beyond them. */
static void
get_draft(MemoryContext ctx, uint64 row, PfaDraft *draft, bool whole)
{
	memset(draft, 0, sizeof(*draft));
	draft->modification_id = pfa_spi_get_int64(row, 1);
	draft->version = pfa_spi_get_int64(row, 2);
	draft->pfa_id = pfa_spi_get_text(ctx, row, 3);
	draft->id_len = strlen(draft->pfa_id);
	if (!whole)
		return;
	draft->session_id = pfa_spi_get_text(ctx, row, 4);
	draft->change_reason = pfa_spi_get_text(ctx, row, 5);
	draft->base_version = pfa_spi_get_int64(row, 6);
	draft->delta = get_jsonb(ctx, row, 7);
	draft->base = get_jsonb(ctx, row, 8);
}

static PfaDraft *
get_drafts(MemoryContext ctx, uint64 n, bool whole)
{
	PfaDraft *drafts = MemoryContextAlloc(ctx, sizeof(PfaDraft) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		get_draft(ctx, i, &drafts[i], whole);
	return drafts;
}

/* ---- one draft ---- */

bool
pfa_draft_lock(const PfaDraftOwner *owner, const char *pfa_id, PfaDraft *draft)
{
	Oid argtypes[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum values[3] = {CStringGetTextDatum(owner->organization_id),
					   CStringGetTextDatum(owner->user_id),
					   CStringGetTextDatum(pfa_id)};
	MemoryContext caller = CurrentMemoryContext;
	bool found;

	found = pfa_spi_execute("SELECT modification_id, version, pfa_id, "
							"session_id, change_reason, base_version, delta, "
							"base FROM @.@.pfa_modification "
							"WHERE organization_id = $1 AND user_id = $2 "
							"AND pfa_id = $3 AND sync_state = 'modified' "
							"FOR UPDATE",
							3, argtypes, values, NULL, false) > 0;
	if (found)
		get_draft(caller, 0, draft, true);
	pfa_spi_finish();
	return found;
}

bool
pfa_draft_insert(const PfaDraftOwner *owner, PfaDraft *draft)
{
	Oid argtypes[8] = {TEXTOID, TEXTOID, TEXTOID,  TEXTOID,
					   TEXTOID, INT8OID, JSONBOID, JSONBOID};
	Datum values[8];
	char nulls[8];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(owner->organization_id);
	values[1] = CStringGetTextDatum(owner->user_id);
	values[2] = CStringGetTextDatum(draft->pfa_id);
	pfa_spi_set_text(values, nulls, 3, draft->session_id);
	pfa_spi_set_text(values, nulls, 4, draft->change_reason);
	values[5] = Int64GetDatum(draft->base_version);
	values[6] = JsonbPGetDatum(draft->delta);
	values[7] = JsonbPGetDatum(draft->base);
	draft->modification_id = 0;
	draft->version = 1;
	if (pfa_spi_execute("INSERT INTO @.@.pfa_modification "
						"(organization_id, user_id, pfa_id, session_id, "
						"change_reason, base_version, delta, base) "
						"VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
						"ON CONFLICT (organization_id, user_id, pfa_id) "
						"WHERE sync_state = 'modified' DO NOTHING "
						"RETURNING modification_id",
						8, argtypes, values, nulls, false) > 0)
		draft->modification_id = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	return draft->modification_id != 0;
}

void
pfa_draft_update(PfaDraft *draft)
{
	Oid argtypes[6] = {INT8OID, INT8OID, TEXTOID, TEXTOID, JSONBOID, JSONBOID};
	Datum values[6];
	char nulls[6];

	memset(nulls, ' ', sizeof(nulls));
	draft->version++;
	values[0] = Int64GetDatum(draft->modification_id);
	values[1] = Int64GetDatum(draft->version);
	pfa_spi_set_text(values, nulls, 2, draft->session_id);
	pfa_spi_set_text(values, nulls, 3, draft->change_reason);
	values[4] = JsonbPGetDatum(draft->delta);
	values[5] = JsonbPGetDatum(draft->base);
	(void) pfa_spi_run("UPDATE @.@.pfa_modification "
					   "SET version = $2, session_id = $3, "
					   "change_reason = $4, delta = $5, base = $6, "
					   "updated_at = pg_catalog.now() "
					   "WHERE modification_id = $1",
					   6, argtypes, values, nulls);
}

void
pfa_draft_delete(int64 modification_id)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(modification_id)};

	(void) pfa_spi_run("DELETE FROM @.@.pfa_modification "
					   "WHERE modification_id = $1",
					   1, argtypes, values, NULL);
}

/* ---- many ---- */

PfaDraft *
pfa_drafts_lock(const PfaDraftOwner *owner, const char *session_id, int *n)
{
	Oid argtypes[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum values[3];
	char nulls[3];
	MemoryContext caller = CurrentMemoryContext;
	PfaDraft *drafts;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(owner->organization_id);
	values[1] = CStringGetTextDatum(owner->user_id);
	pfa_spi_set_text(values, nulls, 2, session_id);
	*n = (int) pfa_spi_execute("SELECT modification_id, version, pfa_id, "
							   "session_id, change_reason, base_version, "
							   "delta, base FROM @.@.pfa_modification "
							   "WHERE organization_id = $1 AND user_id = $2 "
							   "AND ($3 IS NULL OR session_id = $3) "
							   "AND sync_state = 'modified' "
							   "ORDER BY pfa_id FOR UPDATE",
							   3, argtypes, values, nulls, false);
	drafts = get_drafts(caller, *n, true);
	pfa_spi_finish();
	return drafts;
}

void
pfa_drafts_commit(PfaDraft *drafts, int n)
{
	Oid argtypes[2] = {INT8ARRAYOID, TIMESTAMPTZOID};
	Datum values[2];
	Datum *ids = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(drafts[i].modification_id);
		drafts[i].version++;
	}
	values[0] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	/* One time for all: the order of the calls, not of their transactions. */
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	(void) pfa_spi_run("UPDATE @.@.pfa_modification "
					   "SET sync_state = 'pending_sync', committed_at = $2, "
					   "updated_at = $2, version = version + 1 "
					   "WHERE modification_id = ANY ($1)",
					   2, argtypes, values, NULL);
}

PfaDraft *
pfa_drafts_discard(const PfaDraftOwner *owner, const char *session_id,
				   Datum pfa_ids, bool have_ids, int *n)
{
	Oid argtypes[4] = {TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID};
	Datum values[4];
	char nulls[4];
	MemoryContext caller = CurrentMemoryContext;
	PfaDraft *drafts;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(owner->organization_id);
	values[1] = CStringGetTextDatum(owner->user_id);
	pfa_spi_set_text(values, nulls, 2, session_id);
	values[3] = pfa_ids;
	nulls[3] = have_ids ? ' ' : 'n';
	/* Each arm of the OR has a partial index of its own. */
	*n = (int) pfa_spi_execute("WITH locked AS MATERIALIZED ("
							   "SELECT modification_id "
							   "FROM @.@.pfa_modification "
							   "WHERE organization_id = $1 "
							   "AND (user_id = $2 AND sync_state = 'modified' "
							   "OR user_id = $2 AND sync_state = 'error') "
							   "AND ($3 IS NULL OR session_id = $3) "
							   "AND ($4 IS NULL OR pfa_id = ANY ($4)) "
							   "ORDER BY pfa_id, modification_id FOR UPDATE), "
							   "gone AS (DELETE FROM @.@.pfa_modification m "
							   "USING locked l "
							   "WHERE m.modification_id = l.modification_id "
							   "RETURNING m.modification_id, m.version, "
							   "m.pfa_id) "
							   "SELECT * FROM gone "
							   "ORDER BY pfa_id, modification_id",
							   4, argtypes, values, nulls, false);
	drafts = get_drafts(caller, *n, false);
	pfa_spi_finish();
	return drafts;
}
