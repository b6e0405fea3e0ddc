/*
 * worker.h
 *	  The processes of the extension: see README.md beside it.
 */
#ifndef PFA_WORKER_H
#define PFA_WORKER_H

#include "postgres.h"
#include "postmaster/bgworker.h"

#include "registry.h"

/* What a worker is told at its start, in bgw_extra. */
typedef struct PfaWorkerArgs
{
	Oid database;
	PfaWorkerKind kind;
	int slot;     /* helper: of the run it helps */
	int64 run_id; /* helper: that run */
} PfaWorkerArgs;

StaticAssertDecl(sizeof(PfaWorkerArgs) <= BGW_EXTRALEN,
				 "worker arguments do not fit");

/* worker.c */
/* Fill in what all our dynamic workers have in common. */
extern bool pfa_worker_start(const PfaWorkerArgs *args, const char *function,
							 const char *name, BackgroundWorkerHandle **handle);
/*
 * First steps of a dynamic worker: signals, arguments, the table of workers,
 * the database.  Does not return where the worker is not to run.
 */
extern void pfa_worker_begin(PfaWorkerArgs *args);
extern void pfa_worker_set_name(const char *name);
/*
 * A transaction of a worker's own: waits for a lock two seconds at most, since
 * others wait behind who waits, and for no standby.
 */
extern void pfa_worker_start_transaction(void);
extern void pfa_worker_end_transaction(void);
/* Interrupts and settings; call it at each turn of a worker's loop. */
extern void pfa_worker_check(void);

/* launcher.c */
extern void pfa_launcher_register(void);
extern PGDLLEXPORT void pfa_launcher_main(Datum arg);

/* scheduler.c */
extern PGDLLEXPORT void pfa_scheduler_main(Datum arg);

/* observe.c: a turn's work for those who watch; call it outside a transaction */
extern void pfa_scheduler_observe(void);

/* sync_worker.c */
extern PGDLLEXPORT void pfa_sync_worker_main(Datum arg);
extern bool pfa_sync_worker_start_helper(PfaSlot *slot);

/* ddl_hook.c */
extern void pfa_ddl_hook_install(void);

#endif /* PFA_WORKER_H */
