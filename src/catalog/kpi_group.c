/*
 * kpi_group.c
 *	  Sums by key: a hash table whose entries keep the order they came in.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "catalog/kpi.h"

/* ---- keys ---- */

static uint32
hash_text(uint32 hash, const PfaKpiText *text)
{
	if (text->ptr == NULL)
		return hash_combine(hash, 1);
	return hash_combine(hash,
						hash_bytes((const unsigned char *) text->ptr,
								   text->len));
}

static uint32
hash_key(const PfaKpiKey *key)
{
	uint32 hash = key->facet * 27 + key->is_actualized * 9 +
		key->is_discontinued * 3 + key->is_funds_transferable;

	hash = hash_text(hash, &key->organization);
	hash = hash_text(hash, &key->category);
	hash = hash_text(hash, &key->source);
	return hash_text(hash, &key->dor);
}

static inline bool
texts_equal(const PfaKpiText *a, const PfaKpiText *b)
{
	if (a->ptr == NULL || b->ptr == NULL)
		return a->ptr == b->ptr;
	return a->len == b->len && memcmp(a->ptr, b->ptr, a->len) == 0;
}

static bool
keys_equal(const PfaKpiKey *a, const PfaKpiKey *b)
{
	return a->facet == b->facet && a->is_actualized == b->is_actualized &&
		a->is_discontinued == b->is_discontinued &&
		a->is_funds_transferable == b->is_funds_transferable &&
		texts_equal(&a->category, &b->category) &&
		texts_equal(&a->source, &b->source) && texts_equal(&a->dor, &b->dor) &&
		texts_equal(&a->organization, &b->organization);
}

typedef struct KeyEntry
{
	const PfaKpiKey *key;
	PfaKpiGroup *group;
	uint32 hash;
	char status;
} KeyEntry;

#define SH_PREFIX            kpihash
#define SH_ELEMENT_TYPE      KeyEntry
#define SH_KEY_TYPE          const PfaKpiKey *
#define SH_KEY               key
#define SH_HASH_KEY(tb, key) hash_key(key)
#define SH_EQUAL(tb, a, b)   keys_equal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE           static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* ---- sets ---- */

PfaKpiSet *
pfa_kpi_set_create(void)
{
	MemoryContext ctx = AllocSetContextCreate(CurrentMemoryContext,
											  "pfa_vanguard kpi",
											  ALLOCSET_DEFAULT_SIZES);
	PfaKpiSet *set = MemoryContextAllocZero(ctx, sizeof(PfaKpiSet));

	set->ctx = ctx;
	set->row = AllocSetContextCreate(ctx, "pfa_vanguard kpi row",
									 ALLOCSET_SMALL_SIZES);
	set->hash = kpihash_create(ctx, 64, NULL);
	return set;
}

void
pfa_kpi_set_free(PfaKpiSet *set)
{
	MemoryContextDelete(set->ctx);
}

PfaKpiGroup *
pfa_kpi_set_find(PfaKpiSet *set, const PfaKpiKey *key)
{
	KeyEntry *entry = kpihash_lookup(set->hash, key);

	return entry == NULL ? NULL : entry->group;
}

static void
copy_text(MemoryContext ctx, PfaKpiText *text)
{
	char *copy;

	if (text->ptr == NULL)
		return;
	copy = MemoryContextAlloc(ctx, Max(text->len, 1));
	memcpy(copy, text->ptr, text->len);
	text->ptr = copy;
}

static PfaKpiGroup *
make_group(PfaKpiSet *set, const PfaKpiKey *key)
{
	PfaKpiGroup *group = MemoryContextAllocZero(set->ctx, sizeof(PfaKpiGroup));

	group->key = *key;
	copy_text(set->ctx, &group->key.organization);
	copy_text(set->ctx, &group->key.category);
	copy_text(set->ctx, &group->key.source);
	copy_text(set->ctx, &group->key.dor);
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
		pfa_kpi_sum_init(&group->sums[i]);

	if (set->ngroups == set->maxgroups)
	{
		int n = set->maxgroups == 0 ? 16 : set->maxgroups * 2;

		set->groups = set->groups == NULL ?
			MemoryContextAlloc(set->ctx, sizeof(PfaKpiGroup *) * n) :
			repalloc_huge(set->groups, sizeof(PfaKpiGroup *) * n);
		set->maxgroups = n;
	}
	set->groups[set->ngroups++] = group;
	return group;
}

PfaKpiGroup *
pfa_kpi_set_enter(PfaKpiSet *set, const PfaKpiKey *key)
{
	bool found;
	KeyEntry *entry = kpihash_insert(set->hash, key, &found);

	if (!found)
	{
		entry->group = make_group(set, key);
		/* The caller's key is not there for long. */
		entry->key = &entry->group->key;
	}
	return entry->group;
}

void
pfa_kpi_group_add(PfaKpiSet *set, PfaKpiGroup *group, const PfaKpiGroup *other)
{
	group->records += other->records;
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
		pfa_kpi_sum_sum(&group->sums[i], set->ctx, &other->sums[i]);
}

bool
pfa_kpi_group_is_zero(const PfaKpiGroup *group)
{
	if (group->records != 0)
		return false;
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
	{
		if (!pfa_kpi_sum_is_zero(&group->sums[i]))
			return false;
	}
	return true;
}

/* ---- facets ---- */

bool
pfa_kpi_facet_key(const PfaKpiKey *key, PfaKpiFacet facet, PfaKpiKey *out)
{
	Assert(key->facet == PFA_KPI_RECORDS);
	memset(out, 0, sizeof(*out));
	out->facet = facet;
	out->organization = key->organization;
	out->is_actualized = PFA_KPI_NO_FLAG;
	out->is_discontinued = PFA_KPI_NO_FLAG;
	out->is_funds_transferable = PFA_KPI_NO_FLAG;
	switch (facet)
	{
		case PFA_KPI_RECORDS:
			*out = *key;
			return true;
		case PFA_KPI_CATEGORY_SOURCE:
			out->category = key->category;
			out->source = key->source;
			return key->is_discontinued == 0;
		case PFA_KPI_DOR:
			out->dor = key->dor;
			return key->is_discontinued == 0;
		case PFA_KPI_STATE:
			out->is_actualized = key->is_actualized;
			out->is_discontinued = key->is_discontinued;
			out->is_funds_transferable = key->is_funds_transferable;
			return true;
	}
	return false;
}

PfaKpiSet *
pfa_kpi_set_expand(const PfaKpiSet *set)
{
	PfaKpiSet *facets = pfa_kpi_set_create();

	for (int i = 0; i < set->ngroups; i++)
	{
		const PfaKpiGroup *group = set->groups[i];

		for (int f = PFA_KPI_CATEGORY_SOURCE; f <= PFA_KPI_STATE; f++)
		{
			PfaKpiKey key;

			if (pfa_kpi_facet_key(&group->key, f, &key))
				pfa_kpi_group_add(facets, pfa_kpi_set_enter(facets, &key),
								  group);
		}
	}
	return facets;
}
