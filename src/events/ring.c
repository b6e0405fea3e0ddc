/*
 * ring.c
 *	  Events on their way into pfa_event_log: see ring.h.
 *
 * Many processes write, and of each database one reads, its scheduler.  An
 * entry goes from free to writing (by compare-and-swap: whoever fails looks at
 * the next one), ready, taken and free again.  No process can be interrupted
 * between writing and ready; one that is killed there takes all of shared
 * memory with it.  A scheduler that dies with entries taken finds them again
 * when it starts: an event may then be written twice, but is not lost.
 *
 * Entries of a database that nobody schedules are given free after a while, so
 * that they do not stand in everybody's way.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "events/ring.h"
#include "metrics/metrics_private.h"
#include "registry.h"

#define RING_SIZE 512
/* Places that are looked at before an event is dropped. */
#define PROBES      8
#define STALE_USECS (10 * 60 * USECS_PER_SEC)

typedef enum EntryState
{
	ENTRY_FREE,
	ENTRY_WRITING,
	ENTRY_READY,
	ENTRY_TAKEN
} EntryState;

typedef struct Entry
{
	pg_atomic_uint32 state;
	PfaEvent event;
} Entry;

typedef struct Ring
{
	pg_atomic_uint64 next;
	pg_atomic_uint32 used; /* entries that are not free, roughly */
	Entry entries[RING_SIZE];
} Ring;

static Ring *ring;

void
pfa_ring_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Ring)));
}

void
pfa_ring_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ring = ShmemInitStruct("pfa_vanguard events", sizeof(Ring), &found);
	if (!found)
		memset(ring, 0, sizeof(Ring));
	LWLockRelease(AddinShmemInitLock);
}

const char *
pfa_event_level_name(PfaEventLevel level)
{
	static const char *const names[PFA_NLEVELS] = {"debug", "info", "warning",
												   "error"};

	return names[level];
}

/* ---- posting ---- */

/* A copy that ends with a whole character, and on one line. */
static void
copy_text(char *target, Size size, const char *source)
{
	int len = source == NULL ? 0 : (int) strlen(source);

	if (len >= size)
		len = pg_mbcliplen(source, len, (int) size - 1);
	memcpy(target, source == NULL ? "" : source, len);
	target[len] = '\0';
	for (char *p = target; *p != '\0'; p++)
	{
		if (*p == '\n' || *p == '\r' || *p == '\t')
			*p = ' ';
	}
}

static Entry *
claim_entry(void)
{
	for (int i = 0; i < PROBES; i++)
	{
		uint64 ticket = pg_atomic_fetch_add_u64(&ring->next, 1);
		Entry *entry = &ring->entries[ticket % RING_SIZE];
		uint32 expected = ENTRY_FREE;

		if (pg_atomic_compare_exchange_u32(&entry->state, &expected,
										   ENTRY_WRITING))
			return entry;
	}
	return NULL;
}

static void
count_dropped(PfaDatabaseBlock *block)
{
	if (block != NULL)
		pg_atomic_fetch_add_u64(&block->events_dropped, 1);
}

void
pfa_event_post(PfaEventLevel level, const char *component,
			   const char *organization, int64 run_id, const char *code,
			   const char *message, const char *context)
{
	Entry *entry;
	PfaEvent *event;

	pfa_metrics_event(level);
	if (ring == NULL || !OidIsValid(MyDatabaseId))
		return;
	entry = claim_entry();
	if (entry == NULL)
	{
		count_dropped(pfa_metrics_block());
		return;
	}

	event = &entry->event;
	event->at = GetCurrentTimestamp();
	event->level = level;
	event->run_id = run_id;
	event->repeats = 1;
	event->database = MyDatabaseId;
	copy_text(event->component, sizeof(event->component), component);
	copy_text(event->code, sizeof(event->code), code);
	copy_text(event->organization_id, sizeof(event->organization_id),
			  organization);
	copy_text(event->message, sizeof(event->message), message);
	/* Half a jsonb text is none. */
	copy_text(event->context, sizeof(event->context),
			  context != NULL && strlen(context) < sizeof(event->context) ?
				  context :
				  NULL);
	pg_write_barrier();
	pg_atomic_write_u32(&entry->state, ENTRY_READY);

	/* The turn that comes anyway is soon enough, unless space gets short. */
	if (pg_atomic_add_fetch_u32(&ring->used, 1) == RING_SIZE / 2)
		pfa_wake_scheduler_now(MyDatabaseId);
}

/* ---- taking ---- */

static int
older_first(const void *a, const void *b)
{
	const PfaEvent *x = a;
	const PfaEvent *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

static bool
is_same(const PfaEvent *a, const PfaEvent *b)
{
	return a->level == b->level && a->run_id == b->run_id &&
		strcmp(a->code, b->code) == 0 &&
		strcmp(a->component, b->component) == 0 &&
		strcmp(a->organization_id, b->organization_id) == 0 &&
		strcmp(a->message, b->message) == 0;
}

/* Equal events become one, with the first one's time and context. */
static int
merge_equal(PfaEvent *events, int nevents)
{
	int kept = 0;

	for (int i = 0; i < nevents; i++)
	{
		int same = 0;

		while (same < kept && !is_same(&events[same], &events[i]))
			same++;
		if (same < kept)
			events[same].repeats += events[i].repeats;
		else
			events[kept++] = events[i];
	}
	return kept;
}

static void
set_free(Entry *entry)
{
	pg_atomic_write_u32(&entry->state, ENTRY_FREE);
	pg_atomic_fetch_sub_u32(&ring->used, 1);
}

PfaEvent *
pfa_event_take(int max, int *nevents)
{
	TimestampTz now = GetCurrentTimestamp();
	PfaEvent *events;
	int n = 0;

	*nevents = 0;
	if (ring == NULL || pg_atomic_read_u32(&ring->used) == 0)
		return NULL;
	events = palloc(sizeof(PfaEvent) * Min(max, RING_SIZE));
	for (int i = 0; i < RING_SIZE && n < max; i++)
	{
		Entry *entry = &ring->entries[i];
		uint32 state = pg_atomic_read_u32(&entry->state);

		if (state != ENTRY_READY && state != ENTRY_TAKEN)
			continue;
		pg_read_barrier();
		if (entry->event.database == MyDatabaseId)
		{
			/* Taken already: by a scheduler that died over it. */
			if (state == ENTRY_TAKEN ||
				pg_atomic_compare_exchange_u32(&entry->state, &state,
											   ENTRY_TAKEN))
				events[n++] = entry->event;
		}
		else if (entry->event.at + STALE_USECS < now &&
				 pg_atomic_compare_exchange_u32(&entry->state, &state,
												ENTRY_WRITING))
		{
			/* What was taken may have been written down. */
			if (state == ENTRY_READY)
				count_dropped(pfa_metrics_find_block(entry->event.database));
			set_free(entry);
		}
	}
	qsort(events, n, sizeof(PfaEvent), older_first);
	*nevents = merge_equal(events, n);
	return events;
}

void
pfa_event_taken(void)
{
	for (int i = 0; ring != NULL && i < RING_SIZE; i++)
	{
		Entry *entry = &ring->entries[i];
		uint32 state = ENTRY_TAKEN;

		if (pg_atomic_read_u32(&entry->state) == ENTRY_TAKEN &&
			entry->event.database == MyDatabaseId &&
			pg_atomic_compare_exchange_u32(&entry->state, &state,
										   ENTRY_WRITING))
			set_free(entry);
	}
}
