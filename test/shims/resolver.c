/*
 * resolver.c
 *	  Preloaded into a server, a name server of the test's own.
 *
 * Lines of the file $PFA_HOSTS are "name address".  The address "hang" has the
 * look-up take 30 seconds, as where a name server does not answer.  The file is
 * read at each look-up, so that a test can change it; other names are looked up
 * as usual.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int (*Lookup)(const char *, const char *, const struct addrinfo *,
					  struct addrinfo **);

static bool
find(const char *name, char *address)
{
	const char *path = getenv("PFA_HOSTS");
	FILE *file = path != NULL ? fopen(path, "r") : NULL;
	char entry[256];
	bool found = false;

	while (file != NULL && !found &&
		   fscanf(file, "%255s %63s", entry, address) == 2)
		found = strcmp(entry, name) == 0;
	if (file != NULL)
		fclose(file);
	return found;
}

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	Lookup next = (Lookup) dlsym(RTLD_NEXT, "getaddrinfo");
	struct timespec left = {30, 0};
	struct addrinfo numeric = {0};
	char address[64];

	if (node == NULL || !find(node, address))
		return next(node, service, hints, result);
	if (strcmp(address, "hang") == 0)
	{
		while (nanosleep(&left, &left) != 0 && errno == EINTR)
			;
		return EAI_AGAIN;
	}
	if (hints != NULL)
		numeric.ai_socktype = hints->ai_socktype;
	numeric.ai_flags = AI_NUMERICHOST;
	return next(address, service, &numeric, result);
}
