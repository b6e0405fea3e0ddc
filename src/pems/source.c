/*
 * source.c
 *	  What a source needs without looking at any catalog: forgetting secrets.
 *
 * The server keeps its own copies of option values (catalog caches, WAL, the
 * catalog itself), so this shortens the life of ours only: in a worker's long
 * lived memory, a core file or a swapped page.
 */
#include "postgres.h"

#include "pems/source.h"

static void
wipe(char **secret)
{
	if (*secret != NULL)
	{
		explicit_bzero(*secret, strlen(*secret));
		pfree(*secret);
	}
	*secret = NULL;
}

/* May be called again: the source then has no credentials any more. */
void
pfa_source_wipe(PfaSource *source)
{
	wipe(&source->username);
	wipe(&source->password);
	wipe(&source->api_key);
}
