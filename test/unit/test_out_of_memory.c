/*
 * test_out_of_memory.c
 *	  Each allocation of a page fails once: no crash, no leak, no wrong rows.
 *
 * The linker gives us the allocator's calls (see the Makefile); the n-th one
 * fails, for every n until a page is read without a failure.
 */
#include "record/grid_parser.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t n, size_t size);
extern void *__real_realloc(void *old, size_t size);
extern char *__real_strdup(const char *text);
extern void *__wrap_malloc(size_t size);
extern void *__wrap_calloc(size_t n, size_t size);
extern void *__wrap_realloc(void *old, size_t size);
extern char *__wrap_strdup(const char *text);

static long countdown = -1; /* calls that still succeed; -1: all */
static bool failed;

static bool
fails(void)
{
	if (countdown < 0)
		return false;
	if (countdown > 0)
	{
		countdown--;
		return false;
	}
	/* it stays so, as it would */
	return failed = true;
}

void *
__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

char *
__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

static PfaField fields[] = {
	{"pfs_id", "pfaId", PFA_KIND_TEXT},
	{"pfs_a_org", "organization", PFA_KIND_TEXT},
	{"description", "description", PFA_KIND_TEXT},
	{"pfs_f_source", "source", PFA_KIND_TEXT, "Rental"},
	{"pfs_f_rental", "monthlyRate", PFA_KIND_NUMBER},
};
static PfaMapping mapping = {lengthof(fields), fields};
static PfaGridLimits limits = {4096, 1 << 20, 32, 200};
static char page[65536];
static size_t page_len;

static void
add(const char *text)
{
	size_t len = strlen(text);

	memcpy(page + page_len, text, len);
	page_len += len;
}

static void
make_page(void)
{
	char row[512];
	int i;

	add("{\"GRID\":{\"FIELDS\":{\"FIELD\":["
		"{\"aliasnum\":1,\"name\":\"pfs_id\"},"
		"{\"aliasnum\":2,\"name\":\"pfs_a_org\"},"
		"{\"aliasnum\":3,\"name\":\"description\"},"
		"{\"aliasnum\":4,\"name\":\"pfs_f_rental\"}]},"
		"\"DATA\":{\"ROW\":[");
	for (i = 0; i < 150; i++)
	{
		snprintf(row, sizeof(row),
				 "%s{\"D\":[{\"n\":1,\"value\":\"P%04d\"},"
				 "{\"n\":2,\"value\":\"RIO\"},"
				 "{\"n\":3,\"value\":\"\\u00e9scape %d\"},"
				 "{\"n\":4,\"value\":\"%s\"}]}",
				 i > 0 ? "," : "", i, i,
				 i % 7 == 0     ? "abc" :
					 i % 7 == 1 ? "12345678901234567890.5" :
								  "1250.00");
		add(row);
	}
	/* one that is too large to keep */
	add(",{\"D\":[{\"n\":1,\"value\":\"P9999\"},{\"n\":2,\"value\":\"RIO\"},"
		"{\"n\":3,\"value\":\"");
	for (i = 0; i < 6000; i++)
		add("x");
	add("\"}]}]}}}");
}

/* Read the page with the n-th allocation failing; true if all went well. */
static bool
read_page(long n, size_t step, bool *ok)
{
	PfaBatch *batch;
	PfaGridLayout *layout;
	PfaGridParser *parser = NULL;
	PfaGridStatus status = PFA_GRID_OUT_OF_MEMORY;
	size_t at;

	failed = false;
	countdown = n;
	batch = pfa_batch_create();
	layout = pfa_grid_layout_create();
	if (batch != NULL && layout != NULL)
		parser = pfa_grid_parser_create(&mapping, "RIO", layout, &limits,
										batch);
	for (at = 0; parser != NULL && at < page_len; at += step)
		pfa_grid_parser_feed(parser, page + at,
							 page_len - at < step ? page_len - at : step);
	if (parser != NULL)
		status = pfa_grid_parser_finish(parser);
	countdown = -1;

	/* a prefix cache that cannot grow is no failure */
	if (status == PFA_GRID_DONE)
		*ok = pfa_batch_nrecords(batch) == 128 &&
			pfa_batch_nrejects(batch) == 23;
	else
		*ok = failed && status == PFA_GRID_OUT_OF_MEMORY;
	pfa_grid_parser_free(parser);
	if (layout != NULL)
		pfa_grid_layout_free(layout);
	pfa_batch_free(batch);
	return !failed;
}

static void
test_step(size_t step)
{
	bool ok = true;
	long n;

	for (n = 0; ok; n++)
		if (read_page(n, step, &ok))
			break;
	check(ok && n > 10, "in pieces of %zu, each of %ld allocations failed",
		  step, n);
}

int
main(void)
{
	pfa_mapping_prepare(&mapping);
	make_page();
	test_step(sizeof(page));
	test_step(1000);
	test_step(7);
	return end_of_tests();
}
