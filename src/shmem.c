/*
 * shmem.c
 *	  The one pair of hooks that asks for shared memory and sets it up.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "cache/cache.h"
#include "events/ring.h"
#include "generation.h"
#include "metrics/counters.h"
#include "registry.h"
#include "shmem.h"

static shmem_request_hook_type previous_request_hook;
static shmem_startup_hook_type previous_startup_hook;

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(pfa_registry_shmem_size());
	RequestNamedLWLockTranche("pfa_vanguard", 1);
	pfa_metrics_shmem_request();
	pfa_ring_shmem_request();
	RequestAddinShmemSpace(pfa_generation_shmem_size());
	pfa_cache_shmem_request();
}

static void
startup(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	pfa_registry_shmem_startup();
	pfa_metrics_shmem_startup();
	pfa_ring_shmem_startup();
	pfa_generation_shmem_startup();
	pfa_cache_shmem_startup();
}

void
pfa_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}
