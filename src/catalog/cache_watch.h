/*
 * cache_watch.h
 *	  Whether changes of our tables become known to the cache.
 */
#ifndef PFA_CACHE_WATCH_H
#define PFA_CACHE_WATCH_H

#include "postgres.h"

/*
 * False while one of the triggers that note changes is missing or disabled, as
 * during some restores: then nothing may be cached.  Also takes up what other
 * sessions have told about catalogs.
 */
extern bool pfa_cache_watched(void);

/*
 * A command has altered a table, or its triggers: if it is one of ours, all
 * that is cached is over when this transaction commits.
 */
extern void pfa_cache_table_altered(Oid relid);

#endif /* PFA_CACHE_WATCH_H */
