/*
 * grid.h
 *	  Reading pages of a PEMS grid: requests, answers, their oddities.
 */
#ifndef PFA_GRID_H
#define PFA_GRID_H

#include "pems/http.h"
#include "pems/source.h"
#include "record/grid_parser.h"

typedef struct PfaGridRequest
{
	int64 offset;         /* 0-based position of the first row */
	int nrows;            /* page size */
	const char *after_id; /* keyset: only pfs_id >= this; or NULL */
	const char
		*modified_since; /* delta: only pfs_lastmodified >= this; or NULL */
	int64 mark;          /* rows counted apart, see PfaGridResult */
} PfaGridRequest;

/* What came of one attempt at a page. */
typedef enum PfaGridOutcome
{
	PFA_GRID_RUNNING,
	PFA_GRID_PAGE,      /* a whole, well-formed page */
	PFA_GRID_TRANSIENT, /* network, 429, 5xx, cut body, odd answer,
								 * ErrorAlert: try again */
	PFA_GRID_DENIED,    /* 401, 403: stop at once */
	PFA_GRID_FINAL      /* 3xx, other 4xx, refused address, TLS: stop */
} PfaGridOutcome;

typedef struct PfaGridClient PfaGridClient;
typedef struct PfaGridPage PfaGridPage;

/*
 * One connection pool and one field layout; mapping and source outlive it.
 * pems_organization is PEMS's code for the organization.
 */
extern PfaGridClient *
pfa_grid_client_create(MemoryContext ctx, const PfaSource *source,
					   const PfaMapping *mapping,
					   const char *pems_organization);
extern void pfa_grid_client_free(PfaGridClient *client);

/* Begin to fetch a page; rows go to its batch as they arrive. */
extern PfaGridPage *
pfa_grid_page_start(PfaGridClient *client, const PfaGridRequest *request);
extern void pfa_grid_page_free(PfaGridPage *page); /* aborts a running one */

/*
 * Drive all transfers until a page ends, or some running page's batch holds
 * flush_bytes or more, the latch is set, or timeout_ms has passed.  Serves
 * interrupts.  A field list that a page turns out to need is fetched here
 * (HEAD_ONLY, once a source) and the page asked for again.
 */
extern void
pfa_grid_wait(PfaGridClient *client, size_t flush_bytes, long timeout_ms);

extern PfaGridOutcome pfa_grid_page_outcome(const PfaGridPage *page);
extern PfaBatch *
pfa_grid_page_batch(PfaGridPage *page); /* reset it after use */
extern const PfaGridResult *pfa_grid_page_result(const PfaGridPage *page);
extern const char *pfa_grid_page_first_id(const PfaGridPage *page);
extern const char *pfa_grid_page_last_id(const PfaGridPage *page);
extern const char *pfa_grid_page_error(const PfaGridPage *page);  /* one line */
extern double pfa_grid_page_retry_after(const PfaGridPage *page); /* -1: none */
extern int pfa_grid_page_status(const PfaGridPage *page); /* HTTP, 0: none */

/* Since creation: requests sent (any kind), bytes received on the wire. */
extern int64 pfa_grid_client_calls(const PfaGridClient *client);
extern int64 pfa_grid_client_bytes(const PfaGridClient *client);

/*
 * The newest field list, or else the aliases of all named cells; of size 0
 * where none has come yet.  Not complete where rows leave blank cells out: a
 * field may then exist without having been seen.
 */
extern const PfaGridLayout *
pfa_grid_client_fields(const PfaGridClient *client, bool *complete);

/*
 * One cheap request (LIST.COUNT.STORED), for pfa_test_source.  True and the
 * count (-1: not told), or false and a one-line message.  Interruptible.
 */
extern bool pfa_grid_count(PfaGridClient *client, int64 *count, char **message);

#endif /* PFA_GRID_H */
