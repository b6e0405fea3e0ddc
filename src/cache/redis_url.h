/*
 * redis_url.h
 *	  Where Redis is.
 */
#ifndef PFA_REDIS_URL_H
#define PFA_REDIS_URL_H

#include "postgres.h"

#define PFA_REDIS_ADDRESS_LEN 256

typedef struct PfaRedisUrl
{
	bool is_socket;
	char address[PFA_REDIS_ADDRESS_LEN]; /* a path, an IP address, or a
												 * name */
	int port;
	int database;
	char user[PFA_REDIS_ADDRESS_LEN];     /* "": the default user */
	char password[PFA_REDIS_ADDRESS_LEN]; /* "": none */
} PfaRedisUrl;

/*
 * redis://[user[:password]@]host[:port][/database], or the path of a socket,
 * as it is or as unix://[user[:password]@]path[?db=database].  False, with what
 * is wrong, for anything else; the reason holds nothing of the text.
 */
extern bool
pfa_redis_url_parse(const char *text, PfaRedisUrl *url, const char **reason);

#endif /* PFA_REDIS_URL_H */
