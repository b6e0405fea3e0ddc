/*
 * stats.h
 *	  Reading the live KPI.
 */
#ifndef PFA_KPI_STATS_H
#define PFA_KPI_STATS_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

#include "catalog/kpi.h"

/*
 * All functions read what the active snapshot sees.  schema is the
 * extension's.
 */

/* Groups of facets up to max; organization_id NULL: of all organizations. */
extern PfaKpiSet *pfa_kpi_read_set(Oid schema, const char *organization_id,
								   PfaKpiFacet max);

/* Whether the caller may see an organization. */
typedef bool (*PfaKpiFilter) (const PfaKpiText *organization);

/* Rows of pfa_kpi_stats(); organization_id NULL: of all that filter allows. */
extern void pfa_kpi_stats_rows(Oid schema, const char *organization_id,
							   PfaKpiFilter filter, Tuplestorestate *rows,
							   TupleDesc desc);
/* Rows of pfa_kpi_facets(). */
extern void pfa_kpi_facet_rows(Oid schema, PfaKpiFilter filter,
							   Tuplestorestate *rows, TupleDesc desc);

/*
 * A record that the caller sees otherwise than the mirror has it: columns of
 * pfa_mirror as stored, and as derived from the record with its drafts.
 */
typedef struct PfaKpiDraft
{
	const Datum *stored_values; /* NULL: the mirror does not have it */
	const bool *stored_nulls;
	const Datum *merged_values; /* NULL: gone */
	const bool *merged_nulls;
} PfaKpiDraft;

typedef void (*PfaKpiDraftFunction) (const PfaKpiDraft *draft, void *arg);

/*
 * Call function for each of the caller's drafts of the organization.  Set by
 * whoever knows of drafts; without it there are none.
 */
typedef void (*PfaKpiDraftSource) (const char *organization_id,
								   PfaKpiDraftFunction function, void *arg);

/* The document of pfa_stats(). */
extern Jsonb *pfa_kpi_document(Oid schema, const char *organization_id,
							   PfaKpiDraftSource drafts);

#endif							/* PFA_KPI_STATS_H */
