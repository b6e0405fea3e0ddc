/*
 * kpi_work.c
 *	  The scheduler's work on KPI and materialized views.
 *
 * Compaction takes as many transactions as there are deltas for, none of them
 * waited for by anybody, and none with a commit that waits for the disk: what a
 * crash undoes is done again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "utils/guc.h"

#include "bgw/worker.h"
#include "catalog/pfa_catalog.h"
#include "kpi/compact.h"
#include "kpi/refresh.h"

static int
compact_once(void)
{
	int			ndeltas = 0;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("lock_timeout", "1s", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	pgstat_report_activity(STATE_RUNNING, NULL);
	if (OidIsValid(pfa_extension_oid(true)) && pfa_kpi_is_installed())
		ndeltas = pfa_kpi_compact_deltas();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return ndeltas;
}

long
pfa_scheduler_kpi(void)
{
	while (compact_once() >= PFA_KPI_COMPACT_ROWS)
		pfa_worker_check();
	return pfa_mv_refresh_due();
}
