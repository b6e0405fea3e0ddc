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
extern PfaKpiSet *
pfa_kpi_read_set(Oid schema, const char *organization_id, PfaKpiFacet max);

/* Whether the caller may see an organization. */
typedef bool (*PfaKpiFilter)(const PfaKpiText *organization);

/*
 * Rows of pfa_kpi_stats(); organization_id NULL: of all organizations, or all
 * that filter, if there is one, allows.
 */
extern void
pfa_kpi_stats_rows(Oid schema, const char *organization_id, PfaKpiFilter filter,
				   Tuplestorestate *rows, TupleDesc desc);
/* Rows of pfa_kpi_facets(). */
extern void
pfa_kpi_facet_rows(Oid schema, Tuplestorestate *rows, TupleDesc desc);

/* The document of pfa_stats(), as the user sees the organization. */
extern Jsonb *
pfa_kpi_document(Oid schema, const char *organization_id, const char *user_id);

#endif /* PFA_KPI_STATS_H */
