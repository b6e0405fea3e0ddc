/*
 * pfa_catalog.h
 *	  Our own tables, seen from C: plain structs outside, SPI inside.
 *
 * Every call runs in the caller's transaction and pushes its own snapshot
 * where it needs one.  Results are palloc'd in the caller's memory context.
 */
#ifndef PFA_CATALOG_H
#define PFA_CATALOG_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "record/record.h"

/* ---- extension.c ---- */

/*
 * OID of the extension, InvalidOid where this database has none.  With lock
 * it stays as long as the transaction: workers take it each turn and look
 * again, so that DROP EXTENSION waits for nobody for long.
 */
extern Oid pfa_extension_oid(bool lock);
extern Oid pfa_extension_schema(void);
/* Schema, quoted for SQL text, e.g. "public" or "\"My schema\"". */
extern const char *pfa_extension_schema_quoted(void);
/* OID of one of our relations; errors if missing. */
extern Oid pfa_extension_relation(const char *relname);

/*
 * Run a constant statement with parameters by SPI: the one helper that
 * connects, pins search_path, prepares and keeps the plan for text (which
 * holds %s where the schema goes, once or more as "@.@"), checks the return
 * code.  nulls as in SPI.  Returns the number of rows; the result stays in
 * SPI_tuptable until pfa_spi_finish.
 */
extern uint64 pfa_spi_execute(const char *text, int nargs, const Oid *argtypes,
							  Datum *values, const char *nulls, bool read_only);
extern void pfa_spi_finish(void);

/* ---- organization.c ---- */

typedef struct PfaOrganization
{
	char *organization_id;
	char *pems_organization;
	Oid server_oid; /* InvalidOid where the server is gone */
	char *server_name;
	Oid owner; /* role whose user mapping is used; InvalidOid
								 * where it is gone */
	int64 sync_interval_us;
	bool paused;
	bool is_copy; /* stamped under another system or database */
	/* state, pfa_sync_state */
	TimestampTz next_sync_at;
	TimestampTz last_full_at;    /* 0: never */
	TimestampTz last_success_at; /* 0: never */
	int failures;                /* in a row */
	char *watermark;             /* newest pemsVersion seen, or NULL */
	uint64 mapping_hash;         /* mapping the last full run read with */
	char *layout; /* aliases last seen, comma separated, or NULL */
} PfaOrganization;

/* NULL where unknown. */
extern PfaOrganization *pfa_organization_get(const char *organization_id);

/* ---- mapping_table.c ---- */

/*
 * The organization's mapping (its own rows over the defaults), prepared, with
 * strings in ctx.  hash covers alias, key, kind and default of all rows.
 */
extern PfaMapping *
pfa_mapping_load(MemoryContext ctx, const char *organization_id, uint64 *hash);

/* ---- sync_run.c ---- */

typedef struct PfaRunCounts
{
	int64 rows_seen;
	int64 rows_inserted;
	int64 rows_updated;
	int64 rows_deleted;
	int64 rows_unchanged;
	int64 rows_rejected;
	int64 rows_vanished; /* candidates for deletion */
	int64 bytes_received;
	int64 api_calls;
	int64 retries;
} PfaRunCounts;

typedef struct PfaRun
{
	int64 run_id;
	char *organization_id;
	char *mode;  /* as requested: auto, full, delta, force */
	int attempt; /* 1, and more for a run taken up again */
	TimestampTz requested_at;
	TimestampTz started_at;
	Oid extension; /* whose table the run is in */
} PfaRun;

/*
 * Take the longest-waiting queued run whose organization no other run is
 * working on: sets running, pid and start.  NULL where there is none.
 */
extern PfaRun *pfa_run_claim(void);
extern PfaRun *pfa_run_claim_one(int64 run_id); /* NULL if not queued */
extern void pfa_run_set_mode(int64 run_id, const char *mode);
extern void
pfa_run_save_counts(int64 run_id, const PfaRunCounts *counts, int64 rows_total);
/* status: completed, failed or cancelled; error NULL or one line. */
extern void
pfa_run_finish(int64 run_id, const char *status, const PfaRunCounts *counts,
			   int64 rows_total, const char *error);
/* Back to queued, to be taken up again where it stands (attempt + 1). */
extern void pfa_run_requeue(int64 run_id);
/*
 * Runs marked running whose process is gone: requeued, or failed where that
 * has happened too often.  Returns how many were requeued.
 */
extern int pfa_run_reap(void);
extern int pfa_run_count_queued(void);

/* ---- sync_page.c: the durable memory of a run, see sync/coverage.h ---- */

typedef struct PfaPageRow
{
	int64 page_no;
	char *lower_id;     /* NULL: from the beginning */
	char *upper_id;     /* NULL: to the end */
	bool upper_is_ours; /* the page has our record of that id */
	PfaRunCounts counts;
} PfaPageRow;

extern void pfa_page_insert(int64 run_id, const PfaPageRow *page);
extern PfaPageRow *pfa_page_list(int64 run_id, int *npages);
extern void
pfa_vanished_insert(int64 run_id, int64 page_no, const char **ids, int nids);
/* What an attempt at the page has left; or, of all pages that were not read. */
extern void pfa_vanished_forget(int64 run_id, int64 page_no);
extern void pfa_vanished_forget_unread(int64 run_id);
/* vanished.c: read side of the same, distinct ids in byte order */
extern int64 pfa_vanished_count(int64 run_id);
extern const char **
pfa_vanished_next(int64 run_id, const char *after, int limit, int *nids);
extern int64
pfa_run_deleted_since(const char *organization_id, int64 interval_us);
extern void pfa_page_forget(int64 run_id); /* pages and vanished candidates */

/* ---- reject.c ---- */

/* Keep why a record was skipped (latest reason a record; bounded a run). */
extern void pfa_reject_insert(int64 run_id, const char *organization_id,
							  const PfaReject *rejects, int nrejects);
/* At the end of a completed full run: forget what earlier runs rejected. */
extern void pfa_reject_forget(const char *organization_id, int64 run_id);

/* ---- event_log.c ---- */

/*
 * One row in pfa_event_log in this transaction, and one line in the server
 * log.  context is a jsonb text or NULL.  run_id 0: none.
 */
extern void
pfa_event_write(int elevel, const char *component, const char *organization_id,
				int64 run_id, const char *code, const char *message,
				const char *context);

#endif /* PFA_CATALOG_H */
