/*
 * pfa_vanguard.c
 *	  What happens when the library is loaded.
 *
 * Any backend that calls one of our functions loads it.  Only the postmaster,
 * by shared_preload_libraries, gives it shared memory, hooks and workers; the
 * rest works without.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "bgw/worker.h"
#include "cache/cache.h"
#include "generation.h"
#include "guc.h"
#include "metrics/counters.h"
#include "registry.h"
#include "shmem.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void
_PG_init(void)
{
	pfa_guc_define();
	pfa_registry_init();
	pfa_generation_init();
	pfa_cache_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	pfa_shmem_init();
	pfa_metrics_executor_install();
	pfa_helper_start = pfa_sync_worker_start_helper;

	/*
	 * pg_upgrade starts the server to copy it, not to have it work; and it
	 * creates servers and user mappings while our tables are not there yet.
	 */
	if (IsBinaryUpgrade)
		return;
	pfa_ddl_hook_install();
	pfa_launcher_register();
}
