/*
 * maintain.h
 *	  What KPI and materialized views need beside their writers.
 */
#ifndef PFA_KPI_MAINTAIN_H
#define PFA_KPI_MAINTAIN_H

#include "postgres.h"

/*
 * Outside of a transaction: compact deltas, refresh views that are due.
 * Returns milliseconds until it is worth another look, -1 if that is up to
 * whoever changes the mirror.
 */
extern long pfa_kpi_maintain(void);

#endif /* PFA_KPI_MAINTAIN_H */
