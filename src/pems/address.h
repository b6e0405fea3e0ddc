/*
 * address.h
 *	  Which hosts and addresses may be talked to.
 */
#ifndef PFA_ADDRESS_H
#define PFA_ADDRESS_H

#include "postgres.h"

#include <sys/socket.h>

typedef enum PfaAddressClass
{
	PFA_ADDRESS_PUBLIC,
	PFA_ADDRESS_PRIVATE,
	PFA_ADDRESS_LOOPBACK,
	PFA_ADDRESS_FORBIDDEN /* link-local, metadata, multicast, ... */
} PfaAddressClass;

#define PFA_HOST_LEN 256 /* with the NUL; a DNS name has at most 253 */

/* A URL of the kind base_url and proxy take. */
typedef struct PfaUrl
{
	bool https;
	bool ipv6;               /* host is an IPv6 literal, without brackets */
	char host[PFA_HOST_LEN]; /* lower case */
	int port;                /* the scheme's own where none was given */
	const char *path;        /* into the text parsed; "" or "/..." */
} PfaUrl;

/* False, with a static reason that fits "... %s", if it is not such a URL. */
extern bool pfa_url_parse(const char *text, PfaUrl *url, const char **reason);

/* scheme://host:port, palloc'd: what credentials are bound to. */
extern char *pfa_url_origin(const PfaUrl *url);

/* Class of a host that is an address literal; PUBLIC for every name. */
extern PfaAddressClass pfa_host_classify(const char *host);

/* localhost, 127.0.0.0/8 or ::1, spelled in the usual way. */
extern bool pfa_host_is_loopback(const char *host);

/* Is host:port in a comma separated list of host[:port]?  list may be NULL. */
extern bool pfa_host_in_list(const char *list, const PfaUrl *url);

/* No allocation, no ereport: runs in libcurl's callback. */
extern PfaAddressClass pfa_address_classify(const struct sockaddr *address);

#endif /* PFA_ADDRESS_H */
