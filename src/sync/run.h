/*
 * run.h
 *	  One sync of one organization.
 */
#ifndef PFA_RUN_H
#define PFA_RUN_H

#include "catalog/pfa_catalog.h"
#include "registry.h"

/* Called now and then while a run works; for NOTICEs in the foreground. */
typedef void (*PfaRunProgress)(const PfaSlot *slot, void *arg);

/*
 * Perform a claimed run from its first page to its last word in
 * pfa_sync_run.  Call it outside a transaction; it opens and commits its own,
 * none of which outlives a page, and returns outside a transaction.  What goes
 * wrong with the run is recorded, not raised; only interrupts (a query cancel is
 * recorded first) and errors of the record-keeping itself propagate.  with_helper allows a second worker.
 * Returns true if the run completed.
 */
extern bool pfa_run_perform(PfaRun *run, PfaSlot *slot, bool with_helper,
							PfaRunProgress progress, void *arg);

/* The second worker of a run: take pages from the high end until none is left. */
extern void pfa_run_help(PfaSlot *slot, int64 run_id);

#endif /* PFA_RUN_H */
