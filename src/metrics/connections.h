/*
 * connections.h
 *	  Client connections by state, from the server's shared memory.
 */
#ifndef PFA_CONNECTIONS_H
#define PFA_CONNECTIONS_H

#include "postgres.h"

typedef enum PfaConnectionState
{
	PFA_CONNECTION_ACTIVE,
	PFA_CONNECTION_IDLE,
	PFA_CONNECTION_IDLE_IN_TRANSACTION,
	PFA_CONNECTION_WAITING /* active, and waiting for a lock */
} PfaConnectionState;
#define PFA_NCONNECTION_STATES (PFA_CONNECTION_WAITING + 1)

/* Connections of the whole cluster: each is in one state. */
extern void pfa_connections_count(int64 counts[PFA_NCONNECTION_STATES]);
/* How many there can be of users without special rights. */
extern int pfa_connections_max(void);

#endif /* PFA_CONNECTIONS_H */
