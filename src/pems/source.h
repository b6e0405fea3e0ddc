/*
 * source.h
 *	  Where PEMS is and who we are there: foreign server and user mapping of
 *	  the wrapper pfa_pems.
 */
#ifndef PFA_SOURCE_H
#define PFA_SOURCE_H

#include "postgres.h"

typedef enum PfaPagination
{
	PFA_PAGINATION_OFFSET,
	PFA_PAGINATION_KEYSET
} PfaPagination;

typedef struct PfaSource
{
	Oid server_oid;
	char *server_name;
	char *base_url;
	char *origin; /* scheme://host:port, lower case, port always */
	char *tenant;
	char *grid_name;
	char *grid_id;
	char *screen_name;
	int page_size;          /* rows */
	int requests_in_flight; /* pages asked for at a time, a run */
	int writes_per_second;
	int connect_timeout_ms;
	int timeout_ms;
	int max_retries; /* of one request */
	PfaPagination pagination;
	bool supports_delta;
	char *ca_file;
	bool verify_tls;
	char *proxy;
	bool private_hosts_allowed;
	/* credentials: wipe with pfa_source_wipe when the connection is made */
	char *username;
	char *password;
	char *api_key;
} PfaSource;

/*
 * Read the source and the credentials that role has for it, in the current
 * transaction and memory context.  Raises an error, with a HINT, where the
 * server or the mapping is missing or wrong, the host is not allowed, the
 * credentials were given for another origin, or the password file cannot be
 * read (regular file, owned by the server's user, mode 0600 or stricter, or by
 * root, mode 0640 or stricter; at most 4 kB).  Implemented in
 * catalog/source.c, as it reads the server's catalogs and our table.
 */
extern PfaSource *pfa_source_load(Oid server_oid, Oid role);
extern void pfa_source_wipe(PfaSource *source);

/*
 * Say that the credentials role has for the server were given for the server's
 * present origin (pfa_credential_origin).
 */
extern void pfa_source_bind(Oid server_oid, Oid role);

#endif /* PFA_SOURCE_H */
