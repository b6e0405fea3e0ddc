/*
 * gauges.h
 *	  What the scheduler finds in tables and puts where the readers of metrics
 *	  look, so that these never touch a table; and what they read back.
 *
 * Same rules as in counters.h: no error, no waiting, nothing without shared
 * memory.
 */
#ifndef PFA_GAUGES_H
#define PFA_GAUGES_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define PFA_METRICS_LABEL_LEN 64 /* bytes, with the NUL */
#define PFA_METRICS_RELATIONS 48
#define PFA_METRICS_ALERTS    128
#define PFA_PROCESS_ERROR_LEN 256

typedef enum PfaRowKind
{
	PFA_ROWS_INSERTED,
	PFA_ROWS_UPDATED,
	PFA_ROWS_DELETED,
	PFA_ROWS_UNCHANGED,
	PFA_ROWS_REJECTED
} PfaRowKind;
#define PFA_NROW_KINDS (PFA_ROWS_REJECTED + 1)

/* ---- organizations ---- */

typedef struct PfaOrganizationFacts
{
	char organization_id[PFA_METRICS_LABEL_LEN];
	TimestampTz last_success_at; /* 0: never */
	TimestampTz added_at;
	TimestampTz next_sync_at; /* 0: at once */
	int64 interval_us;
	int64 failures;  /* in a row */
	bool idle;       /* paused, or in a copied database */
	bool unverified; /* its server has verify_tls off */
	int64 rejected;
	int64 write_back_pending;
	int64 conflicts_open;
	int64 finished_hour; /* syncs that ended in the last hour */
	int64 failed_hour;   /* and those of them that failed */
} PfaOrganizationFacts;

/*
 * All organizations of this database at a time: those that are not among
 * them any more give their entry free.  conflicts, pending and rejected below
 * 0 leave alone what is known.
 */
extern void
pfa_gauges_organizations(const PfaOrganizationFacts *facts, int nfacts);

/* ---- tables ---- */

typedef struct PfaRelationFacts
{
	Oid oid;
	NameData name;
	int64 size; /* bytes; -1: could not be looked at */
	int64 rows;
	int64 index_hit;
	int64 index_read;
} PfaRelationFacts;

extern void pfa_gauges_relations(const PfaRelationFacts *facts, int nfacts);
/* DROP EXTENSION: nothing is ours any more. */
extern void pfa_gauges_forget(void);

#endif /* PFA_GAUGES_H */
