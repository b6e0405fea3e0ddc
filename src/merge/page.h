/*
 * page.h
 *	  One page of an organization's records as a user sees them.
 */
#ifndef PFA_PAGE_H
#define PFA_PAGE_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "merge/filter.h"
#include "merge/sort.h"

#define PFA_MAX_PAGE_SIZE 1000

typedef struct PfaPageRequest
{
	const char *organization_id;
	const char *user_id;
	Jsonb *filters;
	PfaFilter filter; /* the same, parsed */
	PfaSort sort;
	int page_size;
	const char *cursor; /* NULL: the first page */
} PfaPageRequest;

/* {"data": [...], "pagination": {...}, "lastSyncedAt"} */
extern Jsonb *pfa_page_get(const PfaPageRequest *request);

#endif /* PFA_PAGE_H */
