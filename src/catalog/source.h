/*
 * source.h
 *	  Sources, for functions that users call; workers use pems/source.h.
 */
#ifndef PFA_CATALOG_SOURCE_H
#define PFA_CATALOG_SOURCE_H

#include "postgres.h"

#include "pems/source.h"

/* OID of a server of our wrapper, for which role has USAGE; errors if not. */
extern Oid pfa_source_server(const char *name, Oid role);

/*
 * As pfa_source_load, but credentials that are not bound yet stay so: nothing
 * is written, and nobody waits for this transaction.
 */
extern PfaSource *pfa_source_peek(Oid server_oid, Oid role);

/*
 * Set username and password of role's own mapping, created where missing, and
 * bind them.  role must be the current user.
 */
extern void
pfa_source_set_credentials(Oid server_oid, Oid role, const char *username,
						   const char *secret);

/* May the validator draw a NOTICE about secrets?  Not within the call above. */
extern bool pfa_source_notices(void);

#endif /* PFA_CATALOG_SOURCE_H */
