/*
 * scan.h
 *	  Records of the mirror that pass a filter: how many, and the first of them
 *	  behind a place in the order.
 */
#ifndef PFA_SCAN_H
#define PFA_SCAN_H

#include "postgres.h"
#include "utils/snapshot.h"

#include "catalog/overlay.h"
#include "merge/filter.h"
#include "merge/record.h"
#include "merge/sort.h"

typedef struct PfaScanRequest
{
	const char *organization_id;
	const PfaFilter *filter; /* states are not looked at */
	const PfaSort *sort;
	const PfaSortKey *after; /* or NULL */
	int limit;
	const PfaId *excluded; /* these are left out; in byte order */
	int nexcluded;
	Snapshot snapshot;
} PfaScanRequest;

/* A record and its place; key.id is record.id. */
typedef struct PfaScanRow
{
	PfaSortKey key;
	PfaMirrorRecord record;
} PfaScanRow;

typedef struct PfaScanResult
{
	PfaScanRow *rows; /* in order, at most limit */
	int nrows;
	int64 matching; /* before and behind the place */
} PfaScanResult;

extern void pfa_scan(const PfaScanRequest *request, PfaScanResult *result);

#endif /* PFA_SCAN_H */
