/*
 * compact.h
 *	  Adding deltas to pfa_kpi, and counting the mirror anew.
 */
#ifndef PFA_KPI_COMPACT_H
#define PFA_KPI_COMPACT_H

#include "postgres.h"

/* False where the extension's SQL is of a version that has no KPI. */
extern bool pfa_kpi_is_installed(void);

/*
 * Add deltas to pfa_kpi in the caller's transaction, at most some ten thousand,
 * and collapse notes of changes.  Waits for no row.  Returns how many deltas
 * were added; call it again, in another transaction, while they are
 * PFA_KPI_COMPACT_ROWS.
 */
#define PFA_KPI_COMPACT_ROWS 50000

extern int pfa_kpi_compact_deltas(void);

/*
 * For writers of the mirror: where no scheduler does it, compact now and then.
 */
extern void pfa_kpi_compact_without_scheduler(void);

/* Count the mirror anew, with writers locked out; how many records it has. */
extern int64 pfa_kpi_recount(void);

#endif /* PFA_KPI_COMPACT_H */
