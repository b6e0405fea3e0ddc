/*
 * coverage.h
 *	  Which part of a listing has been read: the proof that nothing is missing.
 *
 * PEMS lists records in the order of their ids and is asked for them by
 * position, while users insert and delete.  Positions shift under the reader;
 * ids do not.  Each answer is one moment's view of a contiguous stretch of the
 * listing, so it settles every id strictly between its first and its last row:
 * what is there is in the answer, what is not in the answer is not there.  The
 * first page settles everything before its last row too, the last page all
 * that follows its first.
 *
 * A listing has been read completely when these open intervals cover the whole
 * line of ids.  Pages therefore overlap by a few rows.  Where two neighbours
 * no longer overlap, rows have shifted between the two reads, and the gap is
 * read again.  It does not matter who read a page, when, or in what order: the
 * same test serves pages read by two workers, pages read before a crash, and
 * pages that came back short.
 */
#ifndef PFA_COVERAGE_H
#define PFA_COVERAGE_H

#include "postgres.h"

typedef struct PfaCoverage PfaCoverage;

/* closed: an interval holds its lower id too (keyset pages ask for id >= x). */
extern PfaCoverage *pfa_coverage_create(MemoryContext ctx, bool closed);
/*
 * NULL: from the beginning, to the end.  Several organizations' records may
 * have the id upper; upper_is_ours tells whether ours was in the page.
 */
extern void
pfa_coverage_add(PfaCoverage *coverage, int64 page_no, const char *lower,
				 const char *upper, bool upper_is_ours);

typedef struct PfaGap
{
	const char *after;  /* covered up to here; NULL: nothing yet */
	bool after_is_ours; /* our record of that id has been seen */
	const char *before; /* and again from here; NULL: nothing more */
	int64 before_page;  /* page that begins at before; -1: none */
} PfaGap;

/* True, and the first gap, where the listing is not covered yet. */
extern bool pfa_coverage_gap(PfaCoverage *coverage, PfaGap *gap);
/* Upper id of a page, NULL where it is not known (or has none). */
extern const char *pfa_coverage_upper_of(const PfaCoverage *coverage,
										 int64 page_no, bool *is_ours);

extern bool pfa_coverage_has(const PfaCoverage *coverage, int64 page_no);
/* Greatest page number, -1 where there is none; least one, 0. */
extern int64 pfa_coverage_max_page(const PfaCoverage *coverage);
extern int64 pfa_coverage_min_page(const PfaCoverage *coverage);

#endif /* PFA_COVERAGE_H */
