/*
 * ring.h
 *	  Events on their way into pfa_event_log, in shared memory.
 *
 * What is posted here arrives though the transaction of whoever posted it is
 * rolled back: the database's scheduler writes it down at its next turn.
 * Posting raises no error, allocates nothing and waits for nobody; where the
 * ring is full the event is dropped, and counted.
 */
#ifndef PFA_RING_H
#define PFA_RING_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "metrics/counters.h"

typedef struct PfaEvent
{
	TimestampTz at;
	PfaEventLevel level;
	int64 run_id;  /* 0: none */
	int64 repeats; /* how often it happened, 1 or more */
	Oid database;
	char component[16];
	char code[32];
	char organization_id[64]; /* "": none */
	char message[480];
	char context[256]; /* jsonb text, "": none */
} PfaEvent;

/*
 * Post an event of this database.  organization and context may be NULL; a
 * context that does not fit is left out, a message is cut.  Neither may hold a
 * secret.  No line is written to the server log.
 */
extern void
pfa_event_post(PfaEventLevel level, const char *component,
			   const char *organization, int64 run_id, const char *code,
			   const char *message, const char *context);

/*
 * The scheduler's side.  Take up to max events of this database, oldest first,
 * palloc'd, equal ones as one with their repeats; they stay in the ring until
 * pfa_event_taken says that they are written down.
 */
extern PfaEvent *pfa_event_take(int max, int *nevents);
extern void pfa_event_taken(void);

extern const char *pfa_event_level_name(PfaEventLevel level);

/* ---- for shmem.c ---- */
extern void pfa_ring_shmem_request(void);
extern void pfa_ring_shmem_startup(void);

#endif /* PFA_RING_H */
