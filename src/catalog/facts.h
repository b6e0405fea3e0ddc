/*
 * facts.h
 *	  What the metrics show of our tables, read by the scheduler.
 *
 * A table that somebody has locked is left out, and what was known of it
 * stands: numbers are not worth waiting for.  Every call runs in the caller's
 * transaction and returns palloc'd results.
 */
#ifndef PFA_FACTS_H
#define PFA_FACTS_H

#include "postgres.h"

#include "metrics/gauges.h"

/* All organizations; -1 where their table is locked. */
extern int pfa_facts_organizations(PfaOrganizationFacts **facts);
/* The extension's tables and materialized views. */
extern int pfa_facts_relations(PfaRelationFacts **facts);
/* Hand the times of the last refresh of each materialized view on. */
extern void pfa_facts_views(void);

#endif /* PFA_FACTS_H */
