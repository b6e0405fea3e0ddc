/*
 * merged.h
 *	  A mirror record with modifications laid over it.
 */
#ifndef PFA_MERGED_H
#define PFA_MERGED_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "catalog/jsonb_items.h"
#include "catalog/overlay.h"

typedef struct PfaMerged
{
	PfaJsonbItem *items; /* of data, in the order of keys */
	int nitems;
	const PfaOverlay *top; /* gives the state; NULL: pristine */
} PfaMerged;

/*
 * Lay a record's overlays over its data; both must stay.  Costs that PEMS does
 * not deliver are computed anew where one of their terms has changed.
 */
extern void
pfa_merge(PfaMerged *merged, const char *organization_id,
		  const JsonbContainer *data, const PfaOverlay *layers, int nlayers);

/*
 * Lay one change, a list of items, over a record's items, which are replaced by
 * a new list; costs stay as they are.
 */
extern void pfa_merge_items(PfaJsonbItem **items, int *nitems,
							const PfaJsonbItem *change, int nchange);

#endif /* PFA_MERGED_H */
