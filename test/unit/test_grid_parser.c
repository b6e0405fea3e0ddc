/*
 * test_grid_parser.c
 *	  Every shape a griddata answer takes, cut at every place.
 *
 * Answers are compared as text (answer.h), so that ways of feeding one can be
 * compared as a whole.
 */
#include "record/grid_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "answer.h"
#include "tap.h"

static PfaGridLimits limits = {4096, 1 << 20, 32, 200};

/*
 * Feed text in pieces: to cut, then by step.  Every piece lies in memory of
 * its own size, for a sanitizer to see a read past its end.
 */
static const char *
run(const char *text, size_t len, size_t cut, size_t step,
	const PfaGridLayout *known)
{
	PfaBatch *batch = pfa_batch_create();
	PfaGridLayout *layout = pfa_grid_layout_create();
	PfaGridParser *parser;
	size_t at = 0;

	if (known != NULL)
		pfa_grid_layout_copy(layout, known);
	parser = pfa_grid_parser_create(&mapping, "RIO", layout, &limits, batch);
	while (at < len)
	{
		size_t n = at == 0 && cut > 0 ? cut : step;
		char *piece;

		if (n > len - at)
			n = len - at;
		piece = malloc(n);
		memcpy(piece, text + at, n);
		pfa_grid_parser_feed(parser, piece, n);
		free(piece);
		at += n;
	}
	pfa_grid_parser_finish(parser);
	summary_len = 0;
	summary[0] = '\0';
	say_all(parser, batch, layout);
	pfa_grid_parser_free(parser);
	pfa_grid_layout_free(layout);
	pfa_batch_free(batch);
	return summary;
}

/* ---- what is expected of which answer ---- */

#define POSITIONAL_FIELDS \
	"\"FIELDS\":{\"FIELD\":[{\"aliasnum\":1,\"name\":\"PFS_ID\"," \
	"\"label\":\"Id\"},{\"name\":\"pfs_a_org\",\"aliasnum\":\"2\"}," \
	"{\"aliasnum\":3,\"name\":\"description\"}," \
	"{\"aliasnum\":4,\"name\":\"pfs_f_rental\"}," \
	"{\"aliasnum\":5,\"name\":\"other\"}]}"
#define ROW1 \
	"{\"id\":\"1\",\"D\":[{\"n\":1,\"value\":\"P1\"}," \
	"{\"n\":\"2\",\"value\":\"RIO\"},{\"n\":3,\"value\":\"one\"}," \
	"{\"n\":4,\"value\":12.5},{\"n\":5,\"value\":\"x\"}]}"
#define ROW2 \
	"{\"D\":[{\"value\":\"P2\",\"n\":1},{\"n\":2,\"value\":\"RIO\"}," \
	"{\"n\":3,\"value\":null},{\"n\":4}],\"more\":{\"a\":[1,{}]}}"
#define ROW3 \
	"{\"id\":\"3\",\"D\":[{\"n\":1,\"value\":\"P3\"}," \
	"{\"n\":2,\"value\":\"RIO2\"},{\"n\":3,\"value\":\"three\"}," \
	"{\"n\":4,\"value\":\"3\"},{\"n\":5,\"value\":\"y\"}]}"
#define GRID(x) \
	"{\"Result\":{\"ResultData\":{\"GRID\":{" x "}}}," \
	"\"ErrorAlert\":[]}"
#define NAMED(id, rest) \
	"{\"CELL\":[{\"ALIAS_NAME\":\"pfs_id\",\"VALUE\":\"" id \
	"\"},{\"ALIAS_NAME\":\"pfs_a_org\",\"VALUE\":\"RIO\"}" rest "]}"
#define NAMED_OF(id, org) \
	"{\"CELL\":[{\"ALIAS_NAME\":\"pfs_id\",\"VALUE\":\"" id \
	"\"},{\"ALIAS_NAME\":\"pfs_a_org\",\"VALUE\":\"" org "\"}]}"
#define CELL(alias, value) ",{\"ALIAS_NAME\":\"" alias "\",\"VALUE\":" value "}"
#define ROWS(x)            "{\"GRID\":{\"DATA\":{\"ROW\":[" x "]}}}"
#define ONE_NAMED(rest)    ROWS(NAMED("P1", rest))
#define HEAD1 \
	" rows=1 foreign=0 total=-1 cursor=-1 more=-1 grid=1 asc=1 " \
	"first=P1 last=P1 layout=0\n"
#define RECORD1          "DONE" HEAD1 "record P1 pfaId=P1 organization=RIO"
#define REJECT1(id, why) "DONE" HEAD1 "reject <" id "> " why "\n"
#define EMPTY(rest)      " rows=0 foreign=0 " rest " asc=1 first=- last=- layout=0\n"
#define NO_TELL          "total=-1 cursor=-1 more=-1"
#define DONE_EMPTY       "DONE" EMPTY(NO_TELL " grid=1")

static const struct
{
	const char *name;
	const char *text;
	const char *expected;
} answers[] = {
	{"positional rows, field list, metadata",
	 "\xef\xbb\xbf" GRID(
		 "\"METADATA\":{\"CURRENTCURSORPOSITION\":\"3\","
		 "\"MORERECORDPRESENT\":\"+\",\"RECORDS\":\"1,234\"},\"TOTALROWS\":9," POSITIONAL_FIELDS
		 ",\"DATA\":{\"ROW\":[" ROW1 ", " ROW2 "\n," ROW3 "]}"),
	 "DONE rows=3 foreign=1 total=1234 cursor=3 more=1 grid=1 asc=1 "
	 "first=P1 last=P3 layout=5\n"
	 "record P1 pfaId=P1 organization=RIO description=one source=Rental "
	 "monthlyRate=125/1\n"
	 "record P2 pfaId=P2 organization=RIO source=Rental\n"},
	{"older field list, GRID1, one row as an object, a total as number",
	 "{\"Result\":{\"ResultData\":{\"x\":[[]],\"GRID1\":{\"HEADER\":"
	 "{\"DATATABLE\":{\"COLUMNS\":{\"COLUMN\":[{\"INDEX\":\"1\",\"NAME\":"
	 "\"PFS_ID\"},{\"INDEX\":2,\"NAME\":\"PFS_A_ORG\"}]}}},"
	 "\"TOTAL-COUNT\":1,\"DATA\":{\"ROW\":{\"D\":[{\"n\":1,\"value\":\"P1\"}"
	 ",{\"n\":2,\"value\":\"RIO\"}]}}}}},\"ErrorAlert\":null}",
	 "DONE rows=1 foreign=0 total=1 cursor=-1 more=-1 grid=1 asc=1 "
	 "first=P1 last=P1 layout=2\n"
	 "record P1 pfaId=P1 organization=RIO source=Rental\n"},
	{"a field list of one, without rows",
	 GRID("\"FIELDS\":{\"FIELD\":{\"aliasnum\":1,\"name\":\"PFS_ID\"}}"),
	 "DONE rows=0 foreign=0 total=-1 cursor=-1 more=-1 grid=1 asc=1 "
	 "first=- last=- layout=1\n"},
	{"named rows",
	 "{\"GRID\":{\"DATA\":{\"ROW\":[" NAMED(
		 "P1",
		 CELL("DESCRIPTION", "\"d\"") CELL(
			 "pfs_f_actualized",
			 "\"Y\"")) "," NAMED("P0",
								 CELL(
									 "pfs_f_source",
									 "\"\"")) "]},\"METADATA\":"
											  "{\"MORERECORDPRESENT\":\"-\",\"ROWCOUNT\":\"2\"}}}",
	 "DONE rows=2 foreign=0 total=2 cursor=-1 more=0 grid=1 asc=0 "
	 "first=P1 last=P0 layout=0\n"
	 "record P1 pfaId=P1 organization=RIO description=d source=Rental "
	 "isActualized=true\n"
	 "record P0 pfaId=P0 organization=RIO source=Rental\n"},
	{"the same id in two organizations",
	 ROWS(
		 NAMED("P1",
			   "") ","
				   "{\"CELL\":[{\"ALIAS_NAME\":\"pfs_id\",\"VALUE\":\"P1\"},"
				   "{\"ALIAS_NAME\":\"pfs_a_org\",\"VALUE\":\"RIO2\"}]}," NAMED(
					   "P10", "")),
	 "DONE rows=3 foreign=1 " NO_TELL " grid=1 asc=1 first=P1 last=P10 "
	 "layout=0\n"
	 "record P1 pfaId=P1 organization=RIO source=Rental\n"
	 "record P10 pfaId=P10 organization=RIO source=Rental\n"},
	{"an id that is the beginning of the one before",
	 ROWS(NAMED("P10", "") "," NAMED("P1", "")),
	 "DONE rows=2 foreign=0 " NO_TELL " grid=1 asc=0 first=P10 last=P1 "
	 "layout=0\n"
	 "record P10 pfaId=P10 organization=RIO source=Rental\n"
	 "record P1 pfaId=P1 organization=RIO source=Rental\n"},
	{"named rows, lower case, short names",
	 ROWS("{\"CELL\":[{\"t\":\"pfs_id\""
		  ",\"value\":\"P1\"},{\"value\":\"RIO\",\"name\":\"pfs_a_org\"},7,"
		  "null,{}]}"),
	 RECORD1 " source=Rental\n"},
	{"ids that other organizations have too",
	 ROWS(NAMED_OF("P1", "RIO") "," NAMED_OF("P1", "RIO2") "," NAMED_OF(
		 "P2", "RIO3") "," NAMED_OF("P2", "RIO")),
	 "DONE rows=4 foreign=2 " NO_TELL " grid=1 asc=1 first=P1 last=P2 "
	 "layout=0\nrecord P1 pfaId=P1 organization=RIO source=Rental\n"
	 "record P2 pfaId=P2 organization=RIO source=Rental\n"},
	{"an id that we have twice",
	 ROWS(NAMED_OF("P1", "RIO") "," NAMED_OF("P1", "RIO2") "," NAMED_OF("P1",
																		"RIO")),
	 "DONE rows=3 foreign=1 " NO_TELL " grid=1 asc=0 first=P1 last=P1 "
	 "layout=0\nrecord P1 pfaId=P1 organization=RIO source=Rental\n"
	 "record P1 pfaId=P1 organization=RIO source=Rental\n"},
	{"a single cell as an object",
	 ROWS("{\"CELL\":{\"ALIAS_NAME\":\"pfs_a_org"
		  "\",\"VALUE\":\"RIO\"}}"),
	 "DONE rows=1 foreign=0 " NO_TELL " grid=1 asc=1 first=- last=- "
	 "layout=0\nreject <> field \"pfs_id\" is missing\n"},
	{"escapes",
	 ONE_NAMED(CELL("description",
					"\"a\\n\\u00e9\\ud83d\\ude00"
					"\\\"\\\\\\/\"")),
	 RECORD1 " description=a\n\xc3\xa9\xf0\x9f\x98\x80\"\\/ source=Rental\n"},
	{"an escape in a name", ROWS("{\"\\u0043ELL\":[]," NAMED("P1", "") "}"),
	 "MALFORMED [malformed answer at byte 40: expected a name]" EMPTY(
		 NO_TELL " grid=1")},
	{"DATA null", GRID("\"DATA\":null"), DONE_EMPTY},
	{"DATA blank", GRID("\"DATA\":\"\""), DONE_EMPTY},
	{"DATA absent", GRID(""), DONE_EMPTY},
	{"DATA without rows", GRID("\"DATA\":{}"), DONE_EMPTY},
	{"ROW empty", GRID("\"DATA\":{\"ROW\":[]}"), DONE_EMPTY},
	{"ROW null", GRID("\"DATA\":{\"ROW\":null}"), DONE_EMPTY},
	{"ROW something else", "{\"GRID\":{\"DATA\":{\"ROW\":[1]}}}",
	 "MALFORMED [malformed answer at byte 25: rows are not objects]" EMPTY(
		 NO_TELL " grid=1")},
	{"an alert",
	 "{\"Result\":null,\"ErrorAlert\":[{\"Message\":\"No \\\"way"
	 "\\\"\",\"Name\":\"E1\"}]}",
	 "ALERT [No \"way\" (E1)]" EMPTY(NO_TELL " grid=0")},
	{"an alert as an object",
	 "{\"ErrorAlert\":{\"Name\":\"E1\"},\"Result\":"
	 "null}",
	 "ALERT [E1]" EMPTY(NO_TELL " grid=0")},
	{"an alert beside a grid", "{\"GRID\":{},\"ErrorAlert\":[{}]}",
	 "ALERT [alert without a message]" EMPTY(NO_TELL " grid=1")},
	{"no alert", "{\"GRID\":{\"ROWCOUNT\":\"\"},\"ErrorAlert\":{}}",
	 DONE_EMPTY},
	{"positional rows before the field list",
	 GRID("\"DATA\":{\"ROW\":[" ROW1 "]}," POSITIONAL_FIELDS),
	 "NEEDS_LAYOUT [rows have cells without a known field]" EMPTY(NO_TELL
																  " grid=1")},
	{"a field list without the id",
	 GRID("\"FIELDS\":{\"FIELD\":[{\"aliasnum\":9,\"name\":\"x\"}]},"
		  "\"DATA\":{\"ROW\":[" ROW1 "]}"),
	 "NEEDS_LAYOUT [rows have cells without a known field]"
	 " rows=0 foreign=0 " NO_TELL " grid=1 asc=1 first=- last=- layout=1\n"},
	{"a value of the wrong kind", ONE_NAMED(CELL("pfs_f_rental", "\"abc\"")),
	 REJECT1("P1", "field \"pfs_f_rental\": \"abc\" is not a number")},
	{"a long one",
	 ONE_NAMED(CELL(
		 "pfs_f_rental",
		 "\"\xc3\xa9"
		 "0123456789012345678901234567890123456789012345678901234567\xc3\xa9"
		 "\"")),
	 REJECT1("P1",
			 "field \"pfs_f_rental\": \"\xc3\xa9"
			 "0123456789012345678901234567890123456789012345678901234567\"... "
			 "is not a number")},
	{"an object as value", ONE_NAMED(CELL("description", "{\"a\":[1,\"]\"]}")),
	 REJECT1("P1",
			 "field \"description\": \"{\"a\":[1,\"]\"]}\" "
			 "is not a single value")},
	{"half a pair", ONE_NAMED(CELL("description", "\"\\ud800x\"")),
	 REJECT1("P1",
			 "field \"description\": \"\xef\xbf\xbdx\" "
			 "contains half of a surrogate pair")},
	{"a NUL", ONE_NAMED(CELL("description", "\"a\\u0000b\"")),
	 REJECT1("P1",
			 "field \"description\": \"ab\" "
			 "contains a NUL character")},
	{"invalid UTF-8", ONE_NAMED(CELL("description", "\"a\xff\"")),
	 REJECT1("P1", "field \"description\": \"a?\" is not valid UTF-8")},
	{"all of that in cells that are not mapped",
	 ONE_NAMED(CELL("o1", "\"\\ud800\"") CELL("o2", "\"\\u0000\"")
				   CELL("o3", "\"\xff\"") CELL("o4", "{\"a\":[[],{}]}")),
	 RECORD1 " source=Rental\n"},
	{"a blank id", ROWS(NAMED(" ", "")),
	 "DONE rows=1 foreign=0 " NO_TELL " grid=1 asc=1 first=- last=- "
	 "layout=0\nreject <> field \"pfs_id\" is missing\n"},
	{"no organization",
	 ROWS("{\"CELL\":[{\"ALIAS_NAME\":\"pfs_id\","
		  "\"VALUE\":\"P1\"}]}"),
	 REJECT1("P1", "field \"pfs_a_org\" is missing")},
	{"HTML", "<html><body>Bad</body></html>",
	 "MALFORMED [answer is not JSON]" EMPTY(NO_TELL " grid=0")},
	{"half a byte order mark", "\xef\xbb{\"GRID\":{}}",
	 "MALFORMED [answer is not JSON]" EMPTY(NO_TELL " grid=0")},
	{"a word", "tomcat is down",
	 "MALFORMED [answer is not JSON]" EMPTY(NO_TELL " grid=0")},
	{"nothing", "", "MALFORMED [answer is empty]" EMPTY(NO_TELL " grid=0")},
	{"no grid", "{\"Result\":{\"ResultData\":{\"GRID\":null}}}",
	 "MALFORMED [answer holds no grid]" EMPTY(NO_TELL " grid=0")},
	{"an array", "[{\"GRID\":{}}]",
	 "MALFORMED [answer holds no grid]" EMPTY(NO_TELL " grid=0")},
	{"data after the end", "{\"GRID\":{}} x",
	 "MALFORMED [malformed answer at byte 12: unexpected data after the end]" EMPTY(
		 NO_TELL " grid=1")},
	{"a bracket that does not match", ROWS("{\"D\":[}," NAMED("P1", "")),
	 "MALFORMED [malformed answer at byte 30: expected a value]" EMPTY(
		 NO_TELL " grid=1")},
	{"a comma too much", ROWS("{\"D\":[{\"n\":1,}]}"),
	 "MALFORMED [malformed answer at byte 37: expected a name]" EMPTY(
		 NO_TELL " grid=1")},
	{"a bad escape", ONE_NAMED(CELL("o1", "\"\\q\"")),
	 "MALFORMED [malformed answer at byte 140: invalid escape]" EMPTY(
		 NO_TELL " grid=1")},
	{"a bad word where a row before had a number",
	 ROWS(NAMED("P1", CELL("o1", "1")) "," NAMED("P2", CELL("o1", "nul"))),
	 "MALFORMED [malformed answer at byte 260: invalid number or word]"
	 " rows=1 foreign=0 " NO_TELL " grid=1 asc=1 first=P1 last=P1 layout=0\n"
	 "record P1 pfaId=P1 organization=RIO source=Rental\n"},
	{"numbers and words where a row before had others",
	 ROWS(
		 NAMED("P1", CELL("pfs_f_rental", "1.50") CELL("o1", "null")) "," NAMED(
			 "P2",
			 CELL("pfs_f_rental", "null")
				 CELL("o1", "true")) "," NAMED("P3",
											   CELL("pfs_f_rental", "2e1")
												   CELL("o1", "{}"))),
	 "DONE rows=3 foreign=0 " NO_TELL " grid=1 asc=1 first=P1 last=P3 "
	 "layout=0\n"
	 "record P1 pfaId=P1 organization=RIO source=Rental monthlyRate=15/1\n"
	 "record P2 pfaId=P2 organization=RIO source=Rental\n"
	 "record P3 pfaId=P3 organization=RIO source=Rental monthlyRate=20/0\n"},
	{"a bad number", "{\"GRID\":{\"x\":01}}",
	 "MALFORMED [malformed answer at byte 15: invalid number or word]" EMPTY(
		 NO_TELL " grid=1")},
};

/* ---- the tests ---- */

static bool
same(const char *got, const char *expected, const char *what)
{
	if (strcmp(got, expected) == 0)
		return true;
	printf("# %s\n# expected: %s\n# got: %s\n", what, expected, got);
	return false;
}

static void
test_answers(void)
{
	char what[64];
	int i;

	for (i = 0; i < lengthof(answers); i++)
	{
		const char *text = answers[i].text;
		const char *expected = answers[i].expected;
		size_t len = strlen(text);
		size_t cut;
		bool ok;

		ok = same(run(text, len, 0, len, NULL), expected, "in one piece");
		check(ok, "%s", answers[i].name);
		ok = same(run(text, len, 0, 1, NULL), expected, "byte by byte");
		for (cut = 1; cut < len && ok; cut++)
		{
			snprintf(what, sizeof(what), "cut at %zu", cut);
			ok = same(run(text, len, cut, len, NULL), expected, what) &&
				same(run(text, len, cut, 7, NULL), expected, what);
		}
		check(ok, "%s: at every split", answers[i].name);
		/* what is only wrong behind its end is complete before */
		if (strstr(expected, "after the end") != NULL)
			continue;
		for (cut = 0, ok = true; cut < len && ok; cut++)
			ok = strncmp(run(text, cut, 0, len, NULL), "DONE", 4) != 0 &&
				strncmp(summary, "MORE", 4) != 0;
		check(ok, "%s: never done when cut short", answers[i].name);
	}
}

static void
test_layout_kept(void)
{
	PfaGridLayout *layout = pfa_grid_layout_create();
	PfaBatch *batch = pfa_batch_create();
	PfaGridParser *parser;
	const char *head = GRID(POSITIONAL_FIELDS);
	const char *rows = ROWS(ROW1);
	const char *wide = ROWS("{\"D\":[{\"n\":1,\"value\":\"P1\"},"
							"{\"n\":6,\"value\":\"\"}]}");
	const char *moved = ROWS("{\"D\":[{\"n\":2,\"value\":\"P1\"},"
							 "{\"n\":1,\"value\":\"RIO\"}]}");
	const char *late = GRID("\"DATA\":{\"ROW\":[" ROW1 "]},"
							"\"FIELDS\":{\"FIELD\":[{\"aliasnum\":2,"
							"\"name\":\"pfs_id\"}]}");

	parser = pfa_grid_parser_create(&mapping, "RIO", layout, &limits, batch);
	pfa_grid_parser_feed(parser, head, strlen(head));
	check(pfa_grid_parser_finish(parser) == PFA_GRID_DONE &&
			  pfa_grid_layout_size(layout) == 5 &&
			  strcmp(pfa_grid_layout_name(layout, 0), "PFS_ID") == 0,
		  "a field list is kept, in the case it came in");
	pfa_grid_parser_free(parser);
	check(strncmp(run(rows, strlen(rows), 0, 1, layout), "DONE rows=1", 11) ==
				  0 &&
			  strstr(summary, "record P1") != NULL,
		  "and serves the next answer");
	check(strncmp(run(wide, strlen(wide), 0, 9, layout), "NEEDS_LAYOUT", 12) ==
			  0,
		  "until a row has more cells");
	check(strncmp(run(moved, strlen(moved), 0, 9, layout), "NEEDS_LAYOUT",
				  12) == 0,
		  "or is of no organization that was asked for");
	check(strncmp(run(late, strlen(late), 0, 9, layout), "NEEDS_LAYOUT", 12) ==
				  0 &&
			  strstr(summary, "layout=1") != NULL,
		  "or another list comes after the rows");
	pfa_batch_free(batch);
	pfa_grid_layout_free(layout);
}

static void
test_long_ids(void)
{
	char text[1024];
	char id[300];
	int n;

	memset(id, 'x', sizeof(id));
	id[255] = '\0';
	n = snprintf(text, sizeof(text),
				 "{\"GRID\":{\"DATA\":{\"ROW\":{\"CELL\":["
				 "{\"ALIAS_NAME\":\"pfs_id\",\"VALUE\":\"%s\"},{\"ALIAS_NAME\""
				 ":\"pfs_a_org\",\"VALUE\":\"RIO\"}]}}}}",
				 id);
	check(strstr(run(text, (size_t) n, 0, 50, NULL), "\nrecord xxx") != NULL,
		  "an id of 255 bytes is one");
	id[255] = 'x';
	id[256] = '\0';
	n = snprintf(text, sizeof(text),
				 "{\"GRID\":{\"DATA\":{\"ROW\":{\"CELL\":["
				 "{\"ALIAS_NAME\":\"pfs_id\",\"VALUE\":\"%s\"},{\"ALIAS_NAME\""
				 ":\"pfs_a_org\",\"VALUE\":\"RIO\"}]}}}}",
				 id);
	check(strstr(run(text, (size_t) n, 0, 50, NULL), "longer than 255 bytes") !=
			  NULL,
		  "one of 256 is not");
}

static void
test_limits(void)
{
	static char text[40000];
	PfaGridLimits saved = limits;
	size_t len;
	size_t size;
	size_t cut;
	bool ok = true;
	int i;

	/* a row exactly at the limit, and one byte past it, at every split */
	len = strlen(ONE_NAMED(CELL("description", "\"d\"")));
	memcpy(text, ONE_NAMED(CELL("description", "\"d\"")), len);
	size = strlen(NAMED("P1", CELL("description", "\"d\"")));
	for (cut = 1; cut < len && ok; cut++)
	{
		limits.max_record_bytes = size;
		ok = strstr(run(text, len, cut, len, NULL), "record P1") != NULL;
		limits.max_record_bytes = size - 1;
		ok = ok &&
			strstr(run(text, len, cut, len, NULL),
				   "reject <P1> record is larger than") != NULL;
	}
	check(ok, "rows at and past the limit of size, at every split");
	limits.max_record_bytes = 10;
	check(strstr(run(text, len, 0, 1, NULL), "reject <P1>") != NULL,
		  "a large row byte by byte keeps its id");
	limits = saved;

	limits.max_page_bytes = len - 1;
	check(strstr(run(text, len, 0, 10, NULL), "MALFORMED [answer is larger") !=
			  NULL,
		  "an answer past the limit of size");
	limits = saved;
	limits.max_fields = 2;
	check(strstr(run(text, len, 0, 10, NULL), "too many cells") != NULL,
		  "more cells than allowed");
	limits.max_record_bytes = 40;
	for (cut = 1, ok = true; cut < len && ok; cut++)
		ok = strstr(run(text, len, cut, len, NULL), "too many cells") != NULL;
	check(ok, "also in a large row, at every split");
	limits = saved;

	/* nesting in the envelope, in a row and in a cell */
	for (i = 0; i < 3; i++)
	{
		static const char *const before[] =
			{"{\"x\":", "{\"GRID\":{\"DATA\":{\"ROW\":[{\"x\":",
			 "{\"GRID\":{\"DATA\":{\"ROW\":[{\"D\":[{\"x\":"};

		len = strlen(before[i]);
		memcpy(text, before[i], len);
		memset(text + len, '[', 30000);
		check(strstr(run(text, len + 30000, 0, 40000, NULL),
					 "nested too deep") != NULL &&
				  strstr(run(text, len + 30000, 0, 13, NULL),
						 i == 0 ? "nested too deep" : "MALFORMED") != NULL,
			  "30,000 brackets after %s", before[i]);
	}
}

/* A cell of 50 MB in pieces of 16 kB: memory must not grow with it. */
static void
test_huge_cell(void)
{
	PfaBatch *batch = pfa_batch_create();
	PfaGridLayout *layout = pfa_grid_layout_create();
	PfaGridLimits wide = limits;
	PfaGridParser *parser;
	struct rusage before;
	struct rusage after;
	static char piece[16384];
	const char *head = "{\"GRID\":{\"DATA\":{\"ROW\":[{\"CELL\":["
					   "{\"ALIAS_NAME\":\"description\",\"VALUE\":\"";
	const char *tail =
		"\"},{\"ALIAS_NAME\":\"pfs_id\",\"VALUE\":\"P1\"}]}," NAMED("P2",
																	"") "]}}}";
	int i;

	wide.max_page_bytes = (size_t) 1 << 30;
	memset(piece, 'x', sizeof(piece));
	parser = pfa_grid_parser_create(&mapping, "RIO", layout, &wide, batch);
	getrusage(RUSAGE_SELF, &before);
	pfa_grid_parser_feed(parser, head, strlen(head));
	for (i = 0; i < 50 * 64; i++)
		pfa_grid_parser_feed(parser, piece, sizeof(piece));
	pfa_grid_parser_feed(parser, tail, strlen(tail));
	pfa_grid_parser_finish(parser);
	getrusage(RUSAGE_SELF, &after);
	summary_len = 0;
	say_all(parser, batch, layout);
	check(strstr(summary, "DONE rows=2") != NULL &&
			  strstr(summary, "record P2") != NULL &&
			  strstr(summary, "reject <P1> record is larger than 4096") != NULL,
		  "a cell of 50 MB costs its row, which keeps its id");
	check(after.ru_maxrss - before.ru_maxrss < 1024,
		  "and less than 1 MB of memory");
	pfa_grid_parser_free(parser);
	pfa_grid_layout_free(layout);
	pfa_batch_free(batch);
}

/* Damaged answers: no crash, and the same verdict however they are cut. */
static void
test_mutations(int rounds)
{
	static const char bytes[] = "{}[]\",:\\un01-eE. \n\xff";
	static char text[8192];
	static char whole[sizeof(summary)];
	bool ok = true;
	int i;

	for (i = 0; i < rounds && ok; i++)
	{
		const char *from = answers[random_below(lengthof(answers))].text;
		size_t len = strlen(from);
		int k;

		memcpy(text, from, len);
		for (k = (int) random_below(4); k >= 0 && len > 0; k--)
		{
			size_t at = random_below(len);

			switch (random_below(3))
			{
				case 0:
					text[at] = bytes[random_below(sizeof(bytes))];
					break;
				case 1:
					memmove(text + at, text + at + 1, len - at - 1);
					len--;
					break;
				default:
					memmove(text + at + 1, text + at, len - at);
					text[at] = bytes[random_below(sizeof(bytes))];
					len++;
					break;
			}
		}
		strcpy(whole, run(text, len, 0, len + 1, NULL));
		run(text, len, 0, 1 + random_below(40), NULL);
		text[len] = '\0';
		ok = same(summary, whole, text);
	}
	check(ok, "%d damaged answers", rounds);
}

int
main(int argc, char **argv)
{
	pfa_mapping_prepare(&mapping);
	test_answers();
	test_layout_kept();
	test_long_ids();
	test_limits();
	test_huge_cell();
	test_mutations(argc > 1 ? atoi(argv[1]) : 20000);
	return end_of_tests();
}
