/*
 * bench_grid_parser.c
 *	  Rows a second on one core, fed as libcurl does, in pieces of 16 kB.
 *
 * A page of 10,000 rows of 73 cells, 24 of them mapped, is parsed over and
 * over; the batch is reset after each piece, so that the memory it takes is
 * that of a run.  Usage: bench_grid_parser [pages [file...]], where a file is
 * an answer of a server (of organization RIO), parsed in place of ours.
 */
#include "record/grid_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NCELLS   73
#define NROWS    10000
#define NSAMPLES 24 /* the first fields of the mapping */
#define PIECE    16384

static PfaField fields[] = {
	{"pfs_id", "pfaId", PFA_KIND_TEXT, NULL, 0},
	{"pfs_a_org", "organization", PFA_KIND_TEXT, NULL, 0},
	{"description", "description", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_area", "areaSilo", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_category", "category", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_catdesc", "forecastCategory", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_class", "class", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_source", "source", PFA_KIND_TEXT, "Rental", 0},
	{"pfs_f_dor", "dor", PFA_KIND_TEXT, "PROJECT", 0},
	{"pfs_f_manufacturer", "manufacturer", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_model", "model", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_rental", "monthlyRate", PFA_KIND_NUMBER, NULL, 0},
	{"pfs_f_purchase", "purchasePrice", PFA_KIND_NUMBER, NULL, 0},
	{"pfs_p_startdate", "originalStart", PFA_KIND_DATE, NULL, 0},
	{"pfs_p_enddate", "originalEnd", PFA_KIND_DATE, NULL, 0},
	{"pfs_f_startdate", "forecastStart", PFA_KIND_DATE, NULL, 0},
	{"pfs_f_enddate", "forecastEnd", PFA_KIND_DATE, NULL, 0},
	{"pfs_a_startdate", "actualStart", PFA_KIND_DATE, NULL, 0},
	{"pfs_a_enddate", "actualEnd", PFA_KIND_DATE, NULL, 0},
	{"pfs_f_actualized", "isActualized", PFA_KIND_BOOLEAN, NULL, 0},
	{"pfs_f_discontinued", "isDiscontinued", PFA_KIND_BOOLEAN, NULL, 0},
	{"pfs_f_fundstrans", "isFundsTransferable", PFA_KIND_BOOLEAN, NULL, 0},
	{"pfs_p_projcode", "contract", PFA_KIND_TEXT, NULL, 0},
	{"pfs_lastmodified", "pemsVersion", PFA_KIND_TEXT, NULL, 0},
	{"pfs_equipment_tag", "equipment", PFA_KIND_TEXT, NULL, 0},
};
static const char *const samples[] = {"",
									  "RIO",
									  "Crane, rough terrain",
									  "Area 4",
									  "CRANE",
									  "Cranes 60t",
									  "MOBILE",
									  "Rental",
									  "BEO",
									  "Liebherr",
									  "LTR 1060",
									  "5250.00",
									  "",
									  "2025-01-15",
									  "2025-06-30",
									  "2025-02-01T00:00:00",
									  "2025-07-15",
									  "",
									  "",
									  "N",
									  "N",
									  "Y",
									  "C-1001",
									  "2025-03-15T10:11:12"};
static PfaMapping mapping = {sizeof(fields) / sizeof(fields[0]), fields};

static char *page;
static size_t page_len;
static size_t page_room;

static void
append(const char *text)
{
	size_t len = strlen(text);

	if (page_len + len >= page_room)
	{
		page_room = 2 * (page_len + len);
		page = realloc(page, page_room);
		if (page == NULL)
			exit(1);
	}
	memcpy(page + page_len, text, len + 1);
	page_len += len;
}

/* Every third cell is a mapped one. */
static const char *
alias_of(int cell)
{
	static char name[32];

	if (cell % 3 == 0 && cell / 3 < NSAMPLES)
		return fields[cell / 3].alias;
	snprintf(name, sizeof(name), "pfs_x_%d", cell);
	return name;
}

static const char *
value_of(int cell, int row)
{
	static char id[32];

	if (cell == 0)
	{
		snprintf(id, sizeof(id), "PFA-%06d", row);
		return id;
	}
	if (cell % 3 == 0 && cell / 3 < NSAMPLES)
		return samples[cell / 3];
	return cell % 4 == 0 ? "abc" : "";
}

static void
make_page(bool named)
{
	char text[256];
	int row;
	int cell;

	page_len = 0;
	append("{\"Result\":{\"ResultData\":{\"GRID\":{\"METADATA\":{\"RECORDS\":"
		   "\"10000\"},\"FIELDS\":{\"FIELD\":[");
	for (cell = 0; cell < NCELLS; cell++)
	{
		snprintf(text, sizeof(text), "%s{\"aliasnum\":%d,\"name\":\"%s\"}",
				 cell > 0 ? "," : "", cell + 1, alias_of(cell));
		append(text);
	}
	append("]},\"DATA\":{\"ROW\":[");
	for (row = 0; row < NROWS; row++)
	{
		snprintf(text, sizeof(text), "%s{\"id\":\"%d\",\"%s\":[",
				 row > 0 ? "," : "", row + 1, named ? "CELL" : "D");
		append(text);
		for (cell = 0; cell < NCELLS; cell++)
		{
			if (named)
				snprintf(text, sizeof(text),
						 "%s{\"ALIAS_NAME\":\"%s\",\"VALUE\":\"%s\"}",
						 cell > 0 ? "," : "", alias_of(cell),
						 value_of(cell, row));
			else
				snprintf(text, sizeof(text), "%s{\"n\":%d,\"value\":\"%s\"}",
						 cell > 0 ? "," : "", cell + 1, value_of(cell, row));
			append(text);
		}
		append("]}");
	}
	append("]}}}},\"ErrorAlert\":[]}");
}

static void
read_page(const char *name)
{
	FILE *file = fopen(name, "rb");
	size_t n;

	if (file == NULL)
	{
		perror(name);
		exit(1);
	}
	page_len = 0;
	do
	{
		if (page_room - page_len < PIECE)
		{
			page_room = 2 * page_room + PIECE;
			page = realloc(page, page_room);
			if (page == NULL)
				exit(1);
		}
		n = fread(page + page_len, 1, page_room - page_len, file);
		page_len += n;
	} while (n > 0);
	fclose(file);
}

/*
 * Parse the page once, to its number of rows.  The sum of the hashes keeps
 * the work from vanishing.
 */
static int64_t
parse_page(PfaGridLayout *layout, PfaBatch *batch, uint64_t *sum)
{
	PfaGridLimits limits = {1 << 20, (size_t) 1 << 30, 64, 1000};
	PfaGridParser *parser;
	PfaGridStatus status;
	int64_t nrows;
	size_t at;
	int i;

	parser = pfa_grid_parser_create(&mapping, "RIO", layout, &limits, batch);
	for (at = 0; at < page_len; at += PIECE)
	{
		pfa_grid_parser_feed(parser, page + at,
							 page_len - at < PIECE ? page_len - at : PIECE);
		for (i = 0; i < pfa_batch_nrecords(batch); i++)
			*sum += pfa_batch_records(batch)[i].hash;
		pfa_batch_reset(batch);
	}
	status = pfa_grid_parser_finish(parser);
	nrows = pfa_grid_parser_result(parser)->nrows;
	if (status != PFA_GRID_DONE || nrows == 0)
	{
		fprintf(stderr, "unexpected status %d: %s\n", status,
				pfa_grid_parser_result(parser)->error);
		exit(1);
	}
	pfa_grid_parser_free(parser);
	return nrows;
}

static void
measure(const char *what, int pages)
{
	PfaGridLayout *layout = pfa_grid_layout_create();
	PfaBatch *batch = pfa_batch_create();
	struct timespec start;
	struct timespec stop;
	double best = 0;
	uint64_t sum = 0;
	int64_t nrows = 1;
	int i;

	for (i = 0; i < pages; i++)
	{
		double seconds;

		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
		nrows = parse_page(layout, batch, &sum);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &stop);
		seconds = (double) (stop.tv_sec - start.tv_sec) +
			1e-9 * (double) (stop.tv_nsec - start.tv_nsec);
		if ((double) nrows / seconds > best)
			best = (double) nrows / seconds;
	}
	printf("%s: %.0f rows/s, %.0f MB/s (%zu bytes a row, sum %llx)\n", what,
		   best, best * (double) page_len / (double) nrows / 1e6,
		   page_len / (size_t) nrows, (unsigned long long) sum);
	pfa_batch_free(batch);
	pfa_grid_layout_free(layout);
}

int
main(int argc, char **argv)
{
	int pages = argc > 1 ? atoi(argv[1]) : 20;
	int i;

	pfa_mapping_prepare(&mapping);
	for (i = 2; i < argc; i++)
	{
		read_page(argv[i]);
		measure(argv[i], pages);
	}
	if (argc <= 2)
	{
		make_page(false);
		measure("positional", pages);
		make_page(true);
		measure("named", pages);
	}
	free(page);
	return 0;
}
