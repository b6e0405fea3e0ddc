/*
 * credential_origin.h
 *	  Table pfa_credential_origin: where credentials may be sent.
 *
 * role is the user mapping's: "public" for the mapping of PUBLIC, which no
 * role can be named.
 */
#ifndef PFA_CREDENTIAL_ORIGIN_H
#define PFA_CREDENTIAL_ORIGIN_H

#include "postgres.h"

/* NULL where the credentials were never used. */
extern char *pfa_credential_origin_get(const char *server, const char *role);

/* Bind, unless somebody else did so first: look again afterwards. */
extern void pfa_credential_origin_add(const char *server, const char *role,
									  const char *origin);

/* Bind, whatever they were bound to. */
extern void pfa_credential_origin_set(const char *server, const char *role,
									  const char *origin);

#endif /* PFA_CREDENTIAL_ORIGIN_H */
