/*
 * flight.c
 *	  Of many processes that miss the same answer, one computes it.
 *
 * Flights stand in a small table by a hash of key and stamp.  A place that
 * another key occupies means that nobody is kept from computing, nothing more.
 * A flight ends when its process says so, when its transaction ends, however
 * it ends, and for those who wait after MAX_WAIT_MS: who waits may himself hold
 * a lock that the other one needs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "cache/backend.h"
#include "compat.h"

#define NPLACES     256 /* a power of two */
#define MAX_WAIT_MS 5000

typedef struct Place
{
	slock_t mutex;
	uint64 hash;       /* 0: free */
	TimestampTz until; /* not waited for any longer */
	ConditionVariable landed;
} Place;

static Place *places;

static struct
{
	Place *place; /* NULL: not in the air */
	uint64 hash;
} mine;

Size
pfa_flight_shmem_size(void)
{
	return MAXALIGN(NPLACES * sizeof(Place));
}

void
pfa_flight_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	places = ShmemInitStruct("pfa_vanguard cache flights",
							 NPLACES * sizeof(Place), &found);
	for (int i = 0; !found && i < NPLACES; i++)
	{
		SpinLockInit(&places[i].mutex);
		places[i].hash = 0;
		ConditionVariableInit(&places[i].landed);
	}
	LWLockRelease(AddinShmemInitLock);
}

static uint64
hash_of(const PfaCacheItem *item, const PfaStamp *stamp)
{
	uint64 seed = ((uint64) MyDatabaseId << 32) | item->scope;
	uint64 hash;

	hash = hash_bytes_extended((const unsigned char *) item->key,
							   strlen(item->key), seed);
	hash = hash_bytes_extended((const unsigned char *) stamp, sizeof(PfaStamp),
							   hash);
	return hash == 0 ? 1 : hash;
}

/* False where another has the same flight under way. */
static bool
take_off(Place *place, uint64 hash)
{
	TimestampTz now = GetCurrentTimestamp();
	bool same;

	SpinLockAcquire(&place->mutex);
	same = place->hash == hash && now < place->until;
	if (!same &&
		(place->hash == 0 || place->hash == hash || now >= place->until))
	{
		place->hash = hash;
		place->until = TimestampTzPlusMilliseconds(now, MAX_WAIT_MS);
		mine.place = place;
		mine.hash = hash;
	}
	SpinLockRelease(&place->mutex);
	return !same;
}

/* Milliseconds for which the flight is still worth waiting for. */
static long
time_left(Place *place, uint64 hash)
{
	TimestampTz until;
	uint64 present;
	long left;

	SpinLockAcquire(&place->mutex);
	present = place->hash;
	until = place->until;
	SpinLockRelease(&place->mutex);
	if (present != hash)
		return 0;
	left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	return Min(left, MAX_WAIT_MS);
}

static void
wait_for_landing(Place *place, uint64 hash)
{
	long left;

	pfa_cache_count(PFA_CACHE_WAITS);
	ConditionVariablePrepareToSleep(&place->landed);
	while ((left = time_left(place, hash)) > 0)
		(void) ConditionVariableTimedSleep(&place->landed, left,
										   PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
}

PfaFlight
pfa_flight_begin(const PfaCacheItem *item, const PfaStamp *stamp, bool may_wait)
{
	uint64 hash = hash_of(item, stamp);
	Place *place = &places[hash & (NPLACES - 1)];

	if (mine.place != NULL)
		return PFA_FLIGHT_NONE;
	if (take_off(place, hash))
		return mine.place != NULL ? PFA_FLIGHT_MINE : PFA_FLIGHT_NONE;
	if (!may_wait)
		return PFA_FLIGHT_NONE;
	wait_for_landing(place, hash);
	return PFA_FLIGHT_WAITED;
}

void
pfa_flight_end(void)
{
	Place *place = mine.place;

	if (place == NULL)
		return;
	mine.place = NULL;
	SpinLockAcquire(&place->mutex);
	/* Another may have given up waiting, and taken off. */
	if (place->hash == mine.hash)
		place->hash = 0;
	SpinLockRelease(&place->mutex);
	ConditionVariableBroadcast(&place->landed);
}

/* An error, or the end of the process, in mid-flight. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		pfa_flight_end();
}

void
pfa_flight_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}
