/*
 * drafts.h
 *	  What a user sees otherwise than the mirror has it, for the KPI.
 */
#ifndef PFA_KPI_DRAFTS_H
#define PFA_KPI_DRAFTS_H

#include "postgres.h"

#include "catalog/kpi.h"
#include "catalog/overlay.h"

/*
 * Add to the set what the user's drafts, and what others have committed and
 * PEMS does not have yet, change in the organization: each record that they
 * touch goes as the mirror has it and comes as the user sees it.  states is
 * counted up by state, PFA_NSTATES of them.  Under the active snapshot.
 */
extern void pfa_kpi_drafts(PfaKpiSet *set, const char *organization_id,
						   const char *user_id, int64 *states);

#endif /* PFA_KPI_DRAFTS_H */
