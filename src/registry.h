/*
 * registry.h
 *	  What the processes of this extension tell each other in shared memory.
 *
 * Three things: an entry a database (who schedules it, whether workers are
 * barred), a slot a running sync (live progress, cancel flag, work shared with
 * the sync's helper), and wake-ups.  Numbers only: no pointer that means
 * something in one process.  Without shared_preload_libraries there is no
 * shared memory; pfa_registry_available() says so, and a run's slot then lives
 * in the process (pfa_slot_create_local).
 */
#ifndef PFA_REGISTRY_H
#define PFA_REGISTRY_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/spin.h"

#define PFA_MAX_SLOTS        64
#define PFA_ORGANIZATION_LEN 64 /* bytes, with the NUL */

typedef enum PfaPhase
{
	PFA_PHASE_STARTING,
	PFA_PHASE_READING, /* asking PEMS */
	PFA_PHASE_WAITING, /* for a retry or Retry-After */
	PFA_PHASE_SWEEPING,
	PFA_PHASE_FINISHING
} PfaPhase;

/* Live state of one running sync. */
typedef struct PfaSlot
{
	pg_atomic_uint32 in_use;
	Oid database;
	int64 run_id;
	char organization_id[PFA_ORGANIZATION_LEN];
	int leader_pid;
	TimestampTz started_at;
	pg_atomic_uint32 cancel; /* set by pfa_sync_cancel */
	pg_atomic_uint32 phase;  /* PfaPhase */
	pg_atomic_uint64 rows_seen;
	pg_atomic_uint64 rows_total; /* 0: not known */
	Oid extension;               /* whose run it is */
	Oid server_oid;              /* foreign server it reads from */
	pg_atomic_uint64 not_before; /* TimestampTz: PEMS asked to wait until
									 * then (Retry-After); 0: nothing asked */

	/*
	 * Pages still to be claimed, [next_low, next_high): the leader takes from
	 * the low end, its helper from the high end, so that two processes meet
	 * at one place only.  Guarded by mutex.
	 */
	slock_t mutex;
	int64 next_low;
	int64 next_high;
	int64 page_rows; /* rows asked for a page */
	int64 page_step; /* positions from page to page, less than
								 * page_rows: pages overlap */
	char max_version[PFA_ORGANIZATION_LEN]; /* greatest pemsVersion
													 * seen */
	int helper_pid;                         /* 0: none */
	bool helper_failed;
	bool stop; /* leader failed: helper must leave */
} PfaSlot;

extern bool pfa_registry_available(void);
/* When shared memory was set up: at the server's start, or after a crash. */
extern TimestampTz pfa_registry_started_at(void);

/* ---- slots ---- */
extern PfaSlot *
pfa_slot_acquire(int64 run_id,
				 const char *organization_id); /* NULL: none free */
extern PfaSlot *
pfa_slot_create_local(int64 run_id, const char *organization_id);
extern void pfa_slot_release(PfaSlot *slot); /* both kinds; also on exit */
extern PfaSlot *pfa_slot_find(Oid database, int64 run_id); /* or NULL */
/* Ask a run of this database to stop; false where no process has it. */
extern bool pfa_slot_cancel(int64 run_id);
extern int pfa_slot_index(const PfaSlot *slot);
extern PfaSlot *pfa_slot_by_index(int i);

/*
 * Start a second worker for the run in slot; false where none can be had.  Set
 * by bgw/ when the library is preloaded, NULL otherwise: sync/ stands below it.
 */
extern bool (*pfa_helper_start)(PfaSlot *slot);

/* ---- workers ---- */

typedef enum PfaWorkerKind
{
	PFA_WORKER_LAUNCHER,
	PFA_WORKER_SCHEDULER,
	PFA_WORKER_SYNC,
	PFA_WORKER_HELPER /* second process of one sync */
} PfaWorkerKind;

/*
 * Put this process into the table of workers, before it connects to the
 * database; it leaves by itself at exit.  False where it must not run: the
 * database is barred, or the table is full.
 */
extern bool pfa_worker_enter(PfaWorkerKind kind, Oid database);
/* Workers of a kind; database InvalidOid: of all. */
extern int pfa_worker_count(PfaWorkerKind kind, Oid database);
/* Workers of a kind that come before this process in the table. */
extern int pfa_worker_rank(PfaWorkerKind kind);
extern bool pfa_worker_known(int pid);
/* Pid of the first worker of a kind, 0 where there is none. */
extern int pfa_worker_pid(PfaWorkerKind kind, Oid database);

/*
 * Keep workers out of a database from here on, and ask those in it to leave.
 * Bars count; each needs its pfa_database_unbar, and an exiting process lifts
 * what it left.
 */
extern void pfa_database_bar(Oid database);
extern void pfa_database_unbar(Oid database);
extern bool pfa_database_is_barred(Oid database);
/* Send SIGTERM to the workers of a database; how many there are. */
extern int pfa_database_dismiss(Oid database);

/* ---- what is known of each database ---- */

#define PFA_MAX_DATABASES 512

typedef enum PfaDatabaseState
{
	PFA_DATABASE_UNKNOWN, /* nobody has looked yet */
	PFA_DATABASE_PRESENT, /* has the extension */
	PFA_DATABASE_ABSENT   /* has not */
} PfaDatabaseState;

typedef struct PfaDatabase
{
	Oid oid; /* InvalidOid: entry not in use */
	PfaDatabaseState state;
	bool requested;            /* look again: CREATE EXTENSION committed */
	bool dismissed;            /* its workers were asked to leave */
	TimestampTz waiting_since; /* for a worker; 0: not waiting */
	uint32 claims;             /* runs that its workers have taken so far */
	TimestampTz disk_full_at;  /* a sync found no room; 0: not since one
								  * has completed */
} PfaDatabase;

/* A copy of entry i, false where it is not in use. */
extern bool pfa_database_read(int i, PfaDatabase *entry);
/* Index of the database's entry, made if need be; -1 where all are in use. */
extern int pfa_database_enter(Oid database);
extern void pfa_database_forget(int i);
/* Have the launcher look into a database where the extension was missing. */
extern void pfa_database_request(Oid database);
/* The launcher starts a scheduler: forget requests and dismissals. */
extern void pfa_database_clear_requests(int i);
extern void pfa_database_set_state(Oid database, PfaDatabaseState state);
extern void pfa_database_set_waiting(Oid database, bool waiting);
/*
 * Does another database wait for a worker, for longer than this one?
 * InvalidOid: does any?
 */
extern bool pfa_database_others_wait(Oid database);
/* This database's workers have taken a run; how many they have taken. */
extern void pfa_database_note_claim(void);
extern uint32 pfa_database_claims(void);

/*
 * A full disk is everybody's: having failed for it once, this database's syncs
 * wait, as each try would take from others what room there is.  A request tries
 * at once.
 */
extern void pfa_database_note_disk_full(void);
extern void pfa_database_clear_disk_full(void);
/* When a sync found the disk full; 0: none since one has completed. */
extern TimestampTz pfa_database_disk_full_at(void);
/* Do this database's syncs wait for room? */
extern bool pfa_database_waits_for_room(void);

/* ---- wake-ups ---- */
/* Wake this database's scheduler when the transaction commits. */
extern void pfa_wake_scheduler_at_commit(void);
extern void pfa_wake_scheduler_now(Oid database);
/* Wake the launcher at commit: there may be another database to look after. */
extern void pfa_wake_launcher_at_commit(void);
/* The same after CREATE EXTENSION: it is this database. */
extern void pfa_request_look_at_commit(void);
extern void pfa_wake_launcher_now(void);
/* ALTER EXTENSION UPDATE: have this database's workers start anew at commit. */
extern void pfa_dismiss_workers_at_commit(void);
/* Signal the process that works on a slot (sets its latch). */
extern void pfa_wake_slot(const PfaSlot *slot);

/* ---- for shmem.c and pfa_vanguard.c ---- */
extern Size pfa_registry_shmem_size(void);
extern void pfa_registry_shmem_startup(void);
extern void pfa_registry_init(void); /* transaction callbacks */

#endif /* PFA_REGISTRY_H */
