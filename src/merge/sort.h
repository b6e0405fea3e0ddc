/*
 * sort.h
 *	  The order of pfa_get's records, and cursors, which are places in it.
 *
 * Records without a value come last in either direction, and records of equal
 * value follow one another by pfaId, upwards.  Only the order by pfaId itself
 * turns it round.
 */
#ifndef PFA_SORT_H
#define PFA_SORT_H

#include "postgres.h"

#include "catalog/mirror.h"

typedef struct PfaSort
{
	const PfaMirrorColumn *column; /* NULL: pfaId */
	bool descending;
} PfaSort;

/* A record's place. */
typedef struct PfaSortKey
{
	Datum value; /* of the column */
	bool isnull;
	const char *id;
	uint32 id_len;
} PfaSortKey;

extern void
pfa_sort_parse(PfaSort *sort, const char *sort_by, const char *sort_order);
extern int
pfa_sort_compare(const PfaSort *sort, const PfaSortKey *a, const PfaSortKey *b);

/* A copy that stays when the row it is of does not. */
extern Datum pfa_sort_copy_value(const PfaSort *sort, Datum value, bool isnull);

/*
 * A cursor is opaque text.  listing identifies organization and filters: a
 * cursor is good for the listing and order that it was made in, and an error
 * says so for any other.
 */
extern char *
pfa_cursor_encode(const PfaSort *sort, uint64 listing, const PfaSortKey *key);
extern void pfa_cursor_decode(const PfaSort *sort, uint64 listing,
							  const char *cursor, PfaSortKey *key);

#endif /* PFA_SORT_H */
