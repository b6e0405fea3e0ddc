/*
 * registry.c
 *	  What the processes of this extension tell each other: see registry.h.
 *
 * One LWLock guards the tables of workers, bars and databases, which change a
 * few times a minute.  It is never held across anything that waits or can
 * fail.  What changes with each page (a slot's progress) is atomic.
 *
 * Every entry names its process by pid, and the process takes it out again in
 * an exit callback that was registered when it was made.  A process that dies
 * without running callbacks makes the postmaster start all of shared memory
 * anew.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "registry.h"

#define MAX_WORKERS 256
#define MAX_BARS    64

/* Syncs that found the disk full wait so long for room. */
#define DISK_FULL_MS (5 * 60 * 1000)

typedef struct Worker
{
	int pid; /* 0: free */
	PfaWorkerKind kind;
	Oid database;
} Worker;

typedef struct Bar
{
	Oid database; /* InvalidOid: free */
	int pid;      /* whose command it serves */
} Bar;

typedef struct Shared
{
	TimestampTz started_at;
	Worker workers[MAX_WORKERS];
	Bar bars[MAX_BARS];
	PfaDatabase databases[PFA_MAX_DATABASES];
	PfaSlot slots[PFA_MAX_SLOTS];
} Shared;

static Shared *shared;
static LWLock *lock;

/* This process's part, to be taken back at exit. */
static struct
{
	bool exit_registered;
	PfaSlot *slot;
	int nbars;
	bool wake_scheduler;
	bool wake_launcher;
	bool request_look;
	bool dismiss_workers;
} mine;

static PfaSlot local_slot;

bool (*pfa_helper_start)(PfaSlot *slot);

/* ---- set-up ---- */

Size
pfa_registry_shmem_size(void)
{
	return MAXALIGN(sizeof(Shared));
}

void
pfa_registry_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pfa_vanguard", sizeof(Shared), &found);
	lock = &(GetNamedLWLockTranche("pfa_vanguard"))->lock;
	if (!found)
	{
		memset(shared, 0, sizeof(Shared));
		shared->started_at = GetCurrentTimestamp();
		for (int i = 0; i < PFA_MAX_SLOTS; i++)
		{
			PfaSlot *slot = &shared->slots[i];

			pg_atomic_init_u32(&slot->in_use, 0);
			pg_atomic_init_u32(&slot->cancel, 0);
			pg_atomic_init_u32(&slot->phase, 0);
			pg_atomic_init_u64(&slot->rows_seen, 0);
			pg_atomic_init_u64(&slot->rows_total, 0);
			pg_atomic_init_u64(&slot->not_before, 0);
			SpinLockInit(&slot->mutex);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

bool
pfa_registry_available(void)
{
	return shared != NULL;
}

TimestampTz
pfa_registry_started_at(void)
{
	return shared->started_at;
}

static void
set_latch_of(int pid)
{
	PGPROC *proc = pid == 0 ? NULL : BackendPidGetProc(pid);

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

/* ---- leaving ---- */

/* With lock held: take this process out of the table of workers. */
static Worker
remove_worker(void)
{
	Worker removed = {0};

	for (int i = 0; i < MAX_WORKERS; i++)
	{
		Worker *worker = &shared->workers[i];

		if (worker->pid != MyProcPid)
			continue;
		removed = *worker;
		worker->pid = 0;
	}
	for (int i = 0;
		 removed.kind == PFA_WORKER_SCHEDULER && i < PFA_MAX_DATABASES; i++)
	{
		if (shared->databases[i].oid == removed.database)
			shared->databases[i].waiting_since = 0;
	}
	return removed;
}

static Oid
longest_waiting(void)
{
	const PfaDatabase *longest = NULL;
	Oid database;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < PFA_MAX_DATABASES; i++)
	{
		const PfaDatabase *entry = &shared->databases[i];

		if (OidIsValid(entry->oid) && entry->waiting_since != 0 &&
			(longest == NULL || entry->waiting_since < longest->waiting_since))
			longest = entry;
	}
	database = longest == NULL ? InvalidOid : longest->oid;
	LWLockRelease(lock);
	return database;
}

/*
 * Wake who looks after a worker that leaves, and who can have its place.  The
 * postmaster tells who started it, but that one may be gone and another in its
 * place.
 */
static void
wake_others(const Worker *worker)
{
	Oid next;

	if (worker->pid == 0 || worker->kind == PFA_WORKER_LAUNCHER)
		return;
	if (worker->kind == PFA_WORKER_SCHEDULER)
	{
		pfa_wake_launcher_now();
		return;
	}
	pfa_wake_scheduler_now(worker->database);
	next = longest_waiting();
	if (OidIsValid(next) && next != worker->database)
		pfa_wake_scheduler_now(next);
}

static void
leave(int code, Datum arg)
{
	Worker removed;
	bool barred = mine.nbars > 0;

	if (mine.slot != NULL)
		pfa_slot_release(mine.slot);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	removed = remove_worker();
	for (int i = 0; i < MAX_BARS; i++)
	{
		if (shared->bars[i].pid == MyProcPid)
			memset(&shared->bars[i], 0, sizeof(Bar));
	}
	LWLockRelease(lock);
	wake_others(&removed);
	if (barred)
		pfa_wake_launcher_now();
}

static void
leave_at_exit(void)
{
	if (mine.exit_registered)
		return;
	mine.exit_registered = true;
	/* on_shmem_exit: the process is out of the database by then. */
	on_shmem_exit(leave, (Datum) 0);
}

/* ---- slots ---- */

static void
fill_slot(PfaSlot *slot, int64 run_id, const char *organization_id)
{
	slot->database = MyDatabaseId;
	strlcpy(slot->organization_id, organization_id,
			sizeof(slot->organization_id));
	slot->leader_pid = MyProcPid;
	slot->started_at = GetCurrentTimestamp();
	slot->server_oid = InvalidOid;
	pg_atomic_write_u32(&slot->cancel, 0);
	pg_atomic_write_u32(&slot->phase, PFA_PHASE_STARTING);
	pg_atomic_write_u64(&slot->rows_seen, 0);
	pg_atomic_write_u64(&slot->rows_total, 0);
	pg_atomic_write_u64(&slot->not_before, 0);
	SpinLockAcquire(&slot->mutex);
	slot->run_id = run_id;
	slot->next_low = 0;
	slot->next_high = 0;
	slot->max_version[0] = '\0';
	slot->helper_pid = 0;
	slot->stop = false;
	SpinLockRelease(&slot->mutex);
}

PfaSlot *
pfa_slot_acquire(int64 run_id, const char *organization_id)
{
	if (shared == NULL)
		return pfa_slot_create_local(run_id, organization_id);
	if (mine.slot != NULL)
		pfa_slot_release(mine.slot);
	leave_at_exit();
	for (int i = 0; i < PFA_MAX_SLOTS; i++)
	{
		PfaSlot *slot = &shared->slots[i];
		uint32 expected = 0;

		if (!pg_atomic_compare_exchange_u32(&slot->in_use, &expected, 1))
			continue;
		mine.slot = slot;
		fill_slot(slot, run_id, organization_id);
		return slot;
	}
	return NULL;
}

PfaSlot *
pfa_slot_create_local(int64 run_id, const char *organization_id)
{
	PfaSlot *slot = &local_slot;

	memset(slot, 0, sizeof(PfaSlot));
	pg_atomic_init_u32(&slot->in_use, 1);
	pg_atomic_init_u32(&slot->cancel, 0);
	pg_atomic_init_u32(&slot->phase, 0);
	pg_atomic_init_u64(&slot->rows_seen, 0);
	pg_atomic_init_u64(&slot->rows_total, 0);
	pg_atomic_init_u64(&slot->not_before, 0);
	SpinLockInit(&slot->mutex);
	fill_slot(slot, run_id, organization_id);
	return slot;
}

void
pfa_slot_release(PfaSlot *slot)
{
	/*
	 * Its helper may still be at work; it sees stop, or a run that is not its
	 * own.
	 */
	SpinLockAcquire(&slot->mutex);
	slot->stop = true;
	slot->run_id = 0;
	slot->next_high = slot->next_low;
	SpinLockRelease(&slot->mutex);
	if (slot == mine.slot)
		mine.slot = NULL;
	pg_atomic_write_u32(&slot->in_use, 0);
}

PfaSlot *
pfa_slot_find(Oid database, int64 run_id)
{
	for (int i = 0; shared != NULL && i < PFA_MAX_SLOTS; i++)
	{
		PfaSlot *slot = &shared->slots[i];

		if (pg_atomic_read_u32(&slot->in_use) && slot->database == database &&
			slot->run_id == run_id)
			return slot;
	}
	return NULL;
}

bool
pfa_slot_cancel(int64 run_id)
{
	PfaSlot *slot = pfa_slot_find(MyDatabaseId, run_id);
	bool found;

	if (slot == NULL)
		return false;
	/* The slot may have passed to another run since it was found. */
	SpinLockAcquire(&slot->mutex);
	found = slot->run_id == run_id;
	if (found)
		pg_atomic_write_u32(&slot->cancel, 1);
	SpinLockRelease(&slot->mutex);
	if (found)
		pfa_wake_slot(slot);
	return found;
}

int
pfa_slot_index(const PfaSlot *slot)
{
	return slot == &local_slot || shared == NULL ? -1 :
												   (int) (slot - shared->slots);
}

PfaSlot *
pfa_slot_by_index(int i)
{
	Assert(shared != NULL && i >= 0 && i < PFA_MAX_SLOTS);
	return &shared->slots[i];
}

/* ---- workers and bars ---- */

static bool
is_barred(Oid database)
{
	for (int i = 0; i < MAX_BARS; i++)
	{
		if (OidIsValid(database) && shared->bars[i].database == database)
			return true;
	}
	return false;
}

bool
pfa_worker_enter(PfaWorkerKind kind, Oid database)
{
	bool entered = false;

	leave_at_exit();

	/*
	 * Table and bars are looked at under one lock, so whoever bars a database
	 * either finds this process in the table or keeps it out.
	 */
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; !is_barred(database) && i < MAX_WORKERS; i++)
	{
		Worker *worker = &shared->workers[i];

		if (worker->pid != 0)
			continue;
		worker->pid = MyProcPid;
		worker->kind = kind;
		worker->database = database;
		entered = true;
		break;
	}
	LWLockRelease(lock);
	return entered;
}

int
pfa_worker_count(PfaWorkerKind kind, Oid database)
{
	int n = 0;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < MAX_WORKERS; i++)
	{
		const Worker *worker = &shared->workers[i];

		if (worker->pid != 0 && worker->kind == kind &&
			(!OidIsValid(database) || worker->database == database))
			n++;
	}
	LWLockRelease(lock);
	return n;
}

int
pfa_worker_rank(PfaWorkerKind kind)
{
	int n = 0;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < MAX_WORKERS; i++)
	{
		const Worker *worker = &shared->workers[i];

		if (worker->pid == MyProcPid)
			break;
		if (worker->pid != 0 && worker->kind == kind)
			n++;
	}
	LWLockRelease(lock);
	return n;
}

bool
pfa_worker_known(int pid)
{
	bool known = false;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; !known && i < MAX_WORKERS; i++)
		known = shared->workers[i].pid == pid;
	LWLockRelease(lock);
	return known;
}

void
pfa_database_bar(Oid database)
{
	leave_at_exit();
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_BARS; i++)
	{
		if (OidIsValid(shared->bars[i].database))
			continue;
		shared->bars[i].database = database;
		shared->bars[i].pid = MyProcPid;
		mine.nbars++;
		break;
	}
	LWLockRelease(lock);
}

void
pfa_database_unbar(Oid database)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_BARS; i++)
	{
		if (shared->bars[i].database != database ||
			shared->bars[i].pid != MyProcPid)
			continue;
		memset(&shared->bars[i], 0, sizeof(Bar));
		mine.nbars--;
		break;
	}
	LWLockRelease(lock);
	pfa_wake_launcher_now();
}

bool
pfa_database_is_barred(Oid database)
{
	bool barred;

	LWLockAcquire(lock, LW_SHARED);
	barred = is_barred(database);
	LWLockRelease(lock);
	return barred;
}

/* ---- databases ---- */

bool
pfa_database_read(int i, PfaDatabase *entry)
{
	LWLockAcquire(lock, LW_SHARED);
	*entry = shared->databases[i];
	LWLockRelease(lock);
	return OidIsValid(entry->oid);
}

/* With lock held. */
static PfaDatabase *
find_database(Oid database, bool make)
{
	PfaDatabase *unused = NULL;

	for (int i = 0; i < PFA_MAX_DATABASES; i++)
	{
		PfaDatabase *entry = &shared->databases[i];

		if (entry->oid == database)
			return entry;
		if (unused == NULL && !OidIsValid(entry->oid))
			unused = entry;
	}
	if (!make || unused == NULL)
		return NULL;
	memset(unused, 0, sizeof(PfaDatabase));
	unused->oid = database;
	return unused;
}

int
pfa_database_dismiss(Oid database)
{
	PfaDatabase *entry;
	int n = 0;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_WORKERS; i++)
	{
		const Worker *worker = &shared->workers[i];

		/* In the table, so not gone yet: the pid is still the worker's. */
		if (worker->pid == 0 || worker->database != database)
			continue;
		(void) kill(worker->pid, SIGTERM);
		n++;
	}
	entry = find_database(database, false);
	if (entry != NULL && n > 0)
		entry->dismissed = true;
	LWLockRelease(lock);
	return n;
}

int
pfa_database_enter(Oid database)
{
	PfaDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_database(database, true);
	LWLockRelease(lock);
	return entry == NULL ? -1 : (int) (entry - shared->databases);
}

void
pfa_database_forget(int i)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	memset(&shared->databases[i], 0, sizeof(PfaDatabase));
	LWLockRelease(lock);
}

void
pfa_database_clear_requests(int i)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	shared->databases[i].requested = false;
	shared->databases[i].dismissed = false;
	LWLockRelease(lock);
}

void
pfa_database_set_state(Oid database, PfaDatabaseState state)
{
	PfaDatabase *entry;
	bool changed = false;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_database(database, true);
	if (entry != NULL)
	{
		changed = entry->state != state;
		entry->state = state;
	}
	LWLockRelease(lock);
	/* It waits for this to look into the next one. */
	if (changed)
		pfa_wake_launcher_now();
}

void
pfa_database_set_waiting(Oid database, bool waiting)
{
	TimestampTz now = GetCurrentTimestamp();
	PfaDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_database(database, true);
	if (entry != NULL && !waiting)
		entry->waiting_since = 0;
	else if (entry != NULL && entry->waiting_since == 0)
		entry->waiting_since = now;
	LWLockRelease(lock);
}

bool
pfa_database_others_wait(Oid database)
{
	PfaDatabase *entry;
	TimestampTz since;
	bool wait = false;

	LWLockAcquire(lock, LW_SHARED);
	entry = find_database(database, false);
	since = entry == NULL ? 0 : entry->waiting_since;
	for (int i = 0; !wait && i < PFA_MAX_DATABASES; i++)
	{
		const PfaDatabase *other = &shared->databases[i];

		wait = OidIsValid(other->oid) && other->oid != database &&
			other->waiting_since != 0 &&
			(since == 0 || other->waiting_since < since);
	}
	LWLockRelease(lock);
	return wait;
}

void
pfa_database_note_claim(void)
{
	TimestampTz now = GetCurrentTimestamp();
	PfaDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_database(MyDatabaseId, true);
	if (entry != NULL)
		entry->claims++;
	/* It has been served: others come first now. */
	if (entry != NULL && entry->waiting_since != 0)
		entry->waiting_since = now;
	LWLockRelease(lock);
}

uint32
pfa_database_claims(void)
{
	PfaDatabase *entry;
	uint32 claims;

	LWLockAcquire(lock, LW_SHARED);
	entry = find_database(MyDatabaseId, false);
	claims = entry == NULL ? 0 : entry->claims;
	LWLockRelease(lock);
	return claims;
}

static void
set_disk_full(TimestampTz at)
{
	PfaDatabase *entry;

	if (shared == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_database(MyDatabaseId, true);
	if (entry != NULL)
		entry->disk_full_at = at;
	LWLockRelease(lock);
}

void
pfa_database_note_disk_full(void)
{
	set_disk_full(GetCurrentTimestamp());
}

void
pfa_database_clear_disk_full(void)
{
	if (pfa_database_disk_full_at() != 0)
		set_disk_full(0);
}

TimestampTz
pfa_database_disk_full_at(void)
{
	PfaDatabase *entry;
	TimestampTz at;

	if (shared == NULL)
		return 0;
	LWLockAcquire(lock, LW_SHARED);
	entry = find_database(MyDatabaseId, false);
	at = entry == NULL ? 0 : entry->disk_full_at;
	LWLockRelease(lock);
	return at;
}

bool
pfa_database_waits_for_room(void)
{
	TimestampTz at = pfa_database_disk_full_at();
	TimestampTz now = GetCurrentTimestamp();

	/* A time ahead dates from before the clock was set back. */
	return at != 0 && at <= now &&
		!TimestampDifferenceExceeds(at, now, DISK_FULL_MS);
}

/* ---- wake-ups ---- */

int
pfa_worker_pid(PfaWorkerKind kind, Oid database)
{
	int pid = 0;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; pid == 0 && i < MAX_WORKERS; i++)
	{
		const Worker *worker = &shared->workers[i];

		if (worker->pid != 0 && worker->kind == kind &&
			worker->database == database)
			pid = worker->pid;
	}
	LWLockRelease(lock);
	return pid;
}

void
pfa_wake_scheduler_now(Oid database)
{
	if (shared != NULL)
		set_latch_of(pfa_worker_pid(PFA_WORKER_SCHEDULER, database));
}

void
pfa_wake_launcher_now(void)
{
	if (shared != NULL)
		set_latch_of(pfa_worker_pid(PFA_WORKER_LAUNCHER, InvalidOid));
}

void
pfa_wake_slot(const PfaSlot *slot)
{
	set_latch_of(slot->leader_pid);
	set_latch_of(slot->helper_pid);
}

void
pfa_wake_scheduler_at_commit(void)
{
	mine.wake_scheduler = true;
}

void
pfa_wake_launcher_at_commit(void)
{
	mine.wake_launcher = true;
}

void
pfa_request_look_at_commit(void)
{
	mine.request_look = true;
	mine.wake_launcher = true;
}

void
pfa_dismiss_workers_at_commit(void)
{
	mine.dismiss_workers = true;
}

void
pfa_database_request(Oid database)
{
	PfaDatabase *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_database(database, true);
	if (entry != NULL)
		entry->requested = true;
	LWLockRelease(lock);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT && shared != NULL)
	{
		if (mine.wake_scheduler)
			pfa_wake_scheduler_now(MyDatabaseId);
		if (mine.dismiss_workers)
			(void) pfa_database_dismiss(MyDatabaseId);
		if (mine.request_look)
			pfa_database_request(MyDatabaseId);
		if (mine.wake_launcher)
			pfa_wake_launcher_now();
	}
	mine.wake_scheduler = false;
	mine.wake_launcher = false;
	mine.request_look = false;
	mine.dismiss_workers = false;
}

void
pfa_registry_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}
