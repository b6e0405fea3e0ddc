/*
 * maintain.c
 *	  The upkeep of KPI and materialized views, in transactions of its own.
 *
 * The scheduler does it at each turn; where there is none, a foreground sync
 * does it when it has ended.  Nobody waits for it, and commits do not wait for
 * the disk: what a crash undoes is done again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"

#include "activity.h"
#include "catalog/pfa_catalog.h"
#include "kpi/compact.h"
#include "kpi/maintain.h"
#include "kpi/refresh.h"

static int
compact_once(void)
{
	int ndeltas = 0;

	pfa_activity_begin();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("lock_timeout", "1s", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	if (OidIsValid(pfa_extension_oid(true)) && pfa_kpi_is_installed())
		ndeltas = pfa_kpi_compact_deltas();
	CommitTransactionCommand();
	pfa_activity_end();
	return ndeltas;
}

long
pfa_kpi_maintain(void)
{
	MemoryContext caller = CurrentMemoryContext;
	long wait;

	while (compact_once() >= PFA_KPI_COMPACT_ROWS)
		CHECK_FOR_INTERRUPTS();
	MemoryContextSwitchTo(caller);
	wait = pfa_mv_refresh_due();
	MemoryContextSwitchTo(caller);
	return wait;
}
