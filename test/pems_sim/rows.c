/*
 * rows.c
 *	  Which rows a request is about.
 *
 * The common cases cost two binary searches: rows of one organization, from
 * an id on.  Everything else gathers row references, sorted by id, and the
 * last few gathered lists are kept, so that the pages of one filtered listing
 * do not each scan the dataset.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

#define CACHE_SIZE 6

static struct
{
	pthread_mutex_t lock;
	struct
	{
		char *key;
		SimRows *rows;
		uint64_t used;
	} entry[CACHE_SIZE];
	uint64_t clock;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
sim_rows_release(SimRows *rows)
{
	int i;

	if (rows == NULL || atomic_fetch_sub(&rows->refs, 1) > 1)
		return;
	for (i = 0; i < rows->nlistings; i++)
		sim_listing_release(rows->listings[i]);
	free(rows->listings);
	free(rows->orgs);
	free(rows->rows);
	free(rows);
}

SimRowRef
sim_rows_get(const SimRows *rows, int64_t row)
{
	SimRowRef ref;
	int index;

	if (rows->gathered)
		return rows->rows[row];
	ref.block = sim_listing_block(rows->listings[0], rows->first + row, &index);
	ref.row = (uint32_t) index;
	ref.org = rows->orgs[0];
	return ref;
}

static bool
compare_ok(SimOperator op, int cmp)
{
	switch (op)
	{
		case SIM_OP_EQ:
			return cmp == 0;
		case SIM_OP_NE:
			return cmp != 0;
		case SIM_OP_LT:
			return cmp < 0;
		case SIM_OP_GT:
			return cmp > 0;
		case SIM_OP_LE:
			return cmp <= 0;
		case SIM_OP_GE:
			return cmp >= 0;
		default:
			return false;
	}
}

static bool
text_matches(const SimFilter *filter, const char *text)
{
	if (filter->op == SIM_OP_BEGINS)
		return strncmp(text, filter->value, strlen(filter->value)) == 0;
	if (filter->op == SIM_OP_CONTAINS)
		return strcasestr(text, filter->value) != NULL;
	return compare_ok(filter->op, strcmp(text, filter->value));
}

static bool
filter_matches(const SimFilter *filter, const SimRecord *record,
			   const char *org)
{
	const SimField *field = &sim_fields[filter->field];
	SimBuf text = {0};
	int64_t ms;
	bool result;

	if (field->kind == SIM_KIND_ID)
		return text_matches(filter, record->id);
	if (field->kind == SIM_KIND_ORG)
		return text_matches(filter, org);
	if (field->kind == SIM_KIND_MODIFIED && filter->op >= SIM_OP_EQ &&
		sim_parse_time(filter->value, &ms))
		return compare_ok(filter->op,
						  (record->modified > ms) - (record->modified < ms));
	sim_buf_reserve(&text, 128);
	text.data[0] = '\0';
	sim_field_text(record, org, filter->field, &text);
	if ((field->kind == SIM_KIND_NUMBER || field->kind == SIM_KIND_DATE) &&
		filter->op >= SIM_OP_EQ)
	{
		SimRecord other = {0};

		/* the value in whichever spelling; blanks never match */
		result = text.len > 0 &&
			sim_field_set(&other, filter->field, filter->value);
		if (result && field->kind == SIM_KIND_NUMBER)
			result = compare_ok(filter->op,
								(record->number[field->index] >
								 other.number[field->index]) -
									(record->number[field->index] <
									 other.number[field->index]));
		else if (result)
			result = compare_ok(filter->op,
								(record->date[field->index] >
								 other.date[field->index]) -
									(record->date[field->index] <
									 other.date[field->index]));
	}
	else
		result = text_matches(filter, text.data);
	sim_buf_free(&text);
	return result;
}

/* AND binds stronger than OR. */
static bool
record_matches(const SimFilter *filters, int nfilters, const SimRecord *record,
			   const char *org)
{
	bool group = true;
	int i;

	for (i = 0; i < nfilters; i++)
	{
		group = group && filter_matches(&filters[i], record, org);
		if (i == nfilters - 1 || !filters[i].or_next)
			continue;
		if (group)
			return true;
		group = true;
	}
	return group;
}

static int
compare_refs(const void *a, const void *b)
{
	const SimRowRef *left = a;
	const SimRowRef *right = b;
	int cmp = strcmp(left->block->records[left->row].id,
					 right->block->records[right->row].id);

	return cmp ? cmp : (left->org > right->org) - (left->org < right->org);
}

static void
rows_add(SimRows *rows, int64_t *size, SimBlock *block, int row, uint32_t org)
{
	SimRowRef ref = {block, (uint32_t) row, org};

	if (rows->nrows == *size)
	{
		*size = *size ? *size * 2 : 1024;
		rows->rows = sim_realloc(rows->rows, *size * sizeof(SimRowRef));
	}
	rows->rows[rows->nrows++] = ref;
}

/* What all filters joined by AND leave of one listing, as far as ids go. */
static void
id_range(const SimListing *listing, const SimFilter *filters, int nfilters,
		 int64_t *first, int64_t *end)
{
	int i;

	*first = 0;
	*end = listing->nrows;
	for (i = 0; i < nfilters; i++)
	{
		const SimFilter *f = &filters[i];
		int64_t low = 0;
		int64_t high = listing->nrows;

		if (sim_fields[f->field].kind != SIM_KIND_ID)
			continue;
		if (f->op == SIM_OP_GE || f->op == SIM_OP_EQ)
			low = sim_listing_search(listing, f->value, false);
		if (f->op == SIM_OP_GT)
			low = sim_listing_search(listing, f->value, true);
		if (f->op == SIM_OP_LT)
			high = sim_listing_search(listing, f->value, false);
		if (f->op == SIM_OP_LE || f->op == SIM_OP_EQ)
			high = sim_listing_search(listing, f->value, true);
		if (low > *first)
			*first = low;
		if (high < *end)
			*end = high;
	}
	if (*end < *first)
		*end = *first;
}

static bool
is_range_filter(const SimFilter *filter)
{
	return sim_fields[filter->field].kind == SIM_KIND_ORG ||
		(sim_fields[filter->field].kind == SIM_KIND_ID &&
		 filter->op >= SIM_OP_EQ && filter->op != SIM_OP_NE);
}

/* Rows of a block cannot match where a stamp newer than all is asked for. */
static bool
block_too_old(const SimBlock *block, const SimFilter *filters, int nfilters)
{
	int64_t ms;
	int i;

	for (i = 0; i < nfilters; i++)
		if (sim_fields[filters[i].field].kind == SIM_KIND_MODIFIED &&
			(filters[i].op == SIM_OP_GT || filters[i].op == SIM_OP_GE) &&
			sim_parse_time(filters[i].value, &ms) && block->newest < ms)
			return true;
	return false;
}

static void
scan_listing(SimRows *rows, int64_t *size, int which, const SimFilter *filters,
			 int nfilters, bool anded, int hide, int64_t first, int64_t end)
{
	SimListing *listing = rows->listings[which];
	const char *org = sim_data.orgs[rows->orgs[which]]->name;
	int b;

	for (b = 0; b < listing->nblocks; b++)
	{
		SimBlock *block = listing->blocks[b];
		int r;

		if (listing->starts[b + 1] <= first || listing->starts[b] >= end ||
			(anded && block_too_old(block, filters, nfilters)))
			continue;
		for (r = 0; r < block->nrows; r++)
			if (listing->starts[b] + r >= first &&
				listing->starts[b] + r < end &&
				!(hide > 0 && block->records[r].serial % hide == 0) &&
				record_matches(filters, nfilters, &block->records[r], org))
				rows_add(rows, size, block, r, rows->orgs[which]);
	}
}

/* The first `need` rows of several sorted ranges. */
static void
merge_ranges(SimRows *rows, int64_t *firsts, const int64_t *ends, int64_t need)
{
	int64_t size = 0;

	while (rows->nrows < need)
	{
		SimRowRef best = {0};
		int from = -1;
		int i;

		for (i = 0; i < rows->nlistings; i++)
		{
			SimRowRef ref;
			int index;

			if (firsts[i] >= ends[i])
				continue;
			ref.block = sim_listing_block(rows->listings[i], firsts[i], &index);
			ref.row = (uint32_t) index;
			ref.org = rows->orgs[i];
			if (from < 0 || compare_refs(&ref, &best) < 0)
			{
				best = ref;
				from = i;
			}
		}
		if (from < 0)
			break;
		rows_add(rows, &size, best.block, (int) best.row, best.org);
		firsts[from]++;
	}
}

static char *
cache_key(const SimFilter *filters, int nfilters, int hide, int64_t version)
{
	SimBuf key = {0};
	int i;

	sim_buf_printf(&key, "%lld %d", (long long) version, hide);
	for (i = 0; i < nfilters; i++)
		sim_buf_printf(&key, "|%d %d %d %zu %s", filters[i].field,
					   filters[i].op, filters[i].or_next,
					   strlen(filters[i].value), filters[i].value);
	return key.data;
}

static SimRows *
cache_get(const char *key)
{
	SimRows *rows = NULL;
	int i;

	pthread_mutex_lock(&cache.lock);
	for (i = 0; i < CACHE_SIZE && rows == NULL; i++)
		if (cache.entry[i].key && strcmp(cache.entry[i].key, key) == 0)
		{
			rows = cache.entry[i].rows;
			atomic_fetch_add(&rows->refs, 1);
			cache.entry[i].used = ++cache.clock;
		}
	pthread_mutex_unlock(&cache.lock);
	return rows;
}

/* Takes the key. */
static void
cache_put(char *key, SimRows *rows)
{
	int oldest = 0;
	int i;
	SimRows *evicted;

	atomic_fetch_add(&rows->refs, 1);
	pthread_mutex_lock(&cache.lock);
	for (i = 1; i < CACHE_SIZE; i++)
		if (cache.entry[i].used < cache.entry[oldest].used)
			oldest = i;
	evicted = cache.entry[oldest].rows;
	free(cache.entry[oldest].key);
	cache.entry[oldest].key = key;
	cache.entry[oldest].rows = rows;
	cache.entry[oldest].used = ++cache.clock;
	pthread_mutex_unlock(&cache.lock);
	sim_rows_release(evicted);
}

static SimRows *
rows_create(const SimFilter *filters, int nfilters, bool anded)
{
	SimRows *rows = sim_alloc(sizeof(SimRows));
	int norgs = atomic_load(&sim_data.norgs);
	int o;
	int i;

	rows->refs = 1;
	rows->listings = sim_alloc(norgs * sizeof(SimListing *));
	rows->orgs = sim_alloc(norgs * sizeof(uint32_t));
	for (o = 0; o < norgs; o++)
	{
		bool wanted = true;

		for (i = 0; anded && i < nfilters; i++)
			if (sim_fields[filters[i].field].kind == SIM_KIND_ORG &&
				!text_matches(&filters[i], sim_data.orgs[o]->name))
				wanted = false;
		if (!wanted)
			continue;
		rows->orgs[rows->nlistings] = (uint32_t) o;
		rows->listings[rows->nlistings++] = sim_org_listing(sim_data.orgs[o]);
	}
	return rows;
}

/* Gather what a slice cannot express. */
static void
rows_gather(SimRows *rows, const SimFilter *filters, int nfilters, bool anded,
			bool ranges, int hide, int64_t *firsts, int64_t *ends, int64_t need)
{
	int64_t size = 0;
	int i;

	rows->gathered = true;
	if (ranges && rows->nlistings <= 16)
	{
		for (i = 0; i < rows->nlistings; i++)
			rows->total += ends[i] - firsts[i];
		merge_ranges(rows, firsts, ends, need);
		return;
	}
	for (i = 0; i < rows->nlistings; i++)
		scan_listing(rows, &size, i, filters, nfilters, anded, hide, firsts[i],
					 ends[i]);
	if (rows->nlistings > 1 && rows->nrows > 1)
		qsort(rows->rows, rows->nrows, sizeof(SimRowRef), compare_refs);
	rows->total = rows->nrows;
}

SimRows *
sim_rows_select(const SimFilter *filters, int nfilters, int64_t offset,
				int64_t count)
{
	SimRows *rows;
	bool anded = true;
	bool ranges = true;
	int hide;
	int64_t *firsts;
	int64_t *ends;
	/* read before the listings: a list kept under it is never older */
	int64_t version = atomic_load(&sim_data.version);
	int i;

	for (i = 0; i < nfilters; i++)
	{
		if (i < nfilters - 1 && filters[i].or_next)
			anded = false;
		if (!is_range_filter(&filters[i]))
			ranges = false;
	}
	pthread_rwlock_rdlock(&sim_settings_lock);
	hide = sim_settings.hide;
	pthread_rwlock_unlock(&sim_settings_lock);
	ranges = ranges && anded && hide == 0;
	rows = rows_create(filters, nfilters, anded);
	firsts = sim_alloc(rows->nlistings * sizeof(int64_t));
	ends = sim_alloc(rows->nlistings * sizeof(int64_t));
	for (i = 0; i < rows->nlistings; i++)
	{
		ends[i] = rows->listings[i]->nrows;
		if (anded)
			id_range(rows->listings[i], filters, nfilters, &firsts[i],
					 &ends[i]);
	}
	if (ranges && rows->nlistings <= 1)
	{
		if (rows->nlistings == 1)
		{
			rows->first = firsts[0];
			rows->total = ends[0] - firsts[0];
		}
	}
	else if (ranges && offset == 0 && rows->nlistings <= 16)
		rows_gather(rows, filters, nfilters, anded, true, 0, firsts, ends,
					count);
	else
	{
		char *key = cache_key(filters, nfilters, hide, version);
		SimRows *cached = cache_get(key);

		if (cached)
		{
			sim_rows_release(rows);
			rows = cached;
			free(key);
		}
		else
		{
			rows_gather(rows, filters, nfilters, anded, ranges, hide, firsts,
						ends, INT64_MAX);
			cache_put(key, rows);
		}
	}
	free(firsts);
	free(ends);
	return rows;
}
