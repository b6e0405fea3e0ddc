/*
 * sim.h
 *	  Types and calls shared by the files of the PEMS simulator.
 *
 * Data is kept in immutable pieces with reference counts: an organization has
 * a listing, a listing has blocks of about a thousand records, a block may
 * have its JSON text.  A request takes a reference on the listing and serves
 * slices of the texts without copying; a change builds new blocks and a new
 * listing beside the old one.  So a page is always consistent, and no request
 * waits for a change.
 */
#ifndef SIM_H
#define SIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <microhttpd.h>

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

/* ---- buffer.c: growable text ---- */

typedef struct SimBuf
{
	char	   *data;			/* always NUL-terminated once written to */
	size_t		len;
	size_t		size;
} SimBuf;

extern void *sim_alloc(size_t size);	/* zeroed; exits when out of memory */
extern void *sim_realloc(void *ptr, size_t size);
extern const char *sim_keep(const char *text, size_t len);	/* never freed */
extern void sim_buf_reserve(SimBuf *buf, size_t more);
extern void sim_buf_add(SimBuf *buf, const char *data, size_t len);
extern void sim_buf_puts(SimBuf *buf, const char *text);
extern void sim_buf_printf(SimBuf *buf, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void sim_buf_json(SimBuf *buf, const char *text, bool escape_all);
extern void sim_buf_free(SimBuf *buf);
extern double sim_now(void);	/* monotonic seconds */

/* Deterministic random numbers: splitmix64. */
extern uint64_t sim_random(uint64_t *state);
extern uint64_t sim_hash(const char *text, uint64_t seed);

/* ---- json.c: a small reader of request bodies ---- */

typedef enum SimJsonType
{
	SIM_JSON_NULL,
	SIM_JSON_BOOL,
	SIM_JSON_NUMBER,
	SIM_JSON_STRING,
	SIM_JSON_ARRAY,
	SIM_JSON_OBJECT
} SimJsonType;

typedef struct SimJson
{
	SimJsonType type;
	bool		truth;
	char	   *key;			/* as a member of an object */
	char	   *text;			/* string, or the number as written */
	struct SimJson *child;		/* first element or member */
	struct SimJson *next;
} SimJson;

extern SimJson *sim_json_parse(const char *text);	/* NULL: malformed */
extern void sim_json_free(SimJson *json);
extern const SimJson *sim_json_get(const SimJson *json, const char *key);
extern const char *sim_json_text(const SimJson *json, const char *key);
extern int64_t sim_json_int(const SimJson *json, const char *key,
							int64_t missing);

/* ---- dataset.c, generate.c: the records ---- */

enum SimText
{
	SIM_DESCRIPTION,
	SIM_AREA,
	SIM_CATEGORY,
	SIM_FORECAST_CATEGORY,
	SIM_CLASS,
	SIM_SOURCE,
	SIM_DOR,
	SIM_MANUFACTURER,
	SIM_MODEL,
	SIM_CONTRACT,
	SIM_EQUIPMENT,
	SIM_NTEXTS
};

enum SimNumber
{
	SIM_RATE,
	SIM_PRICE,
	SIM_NNUMBERS
};

enum SimDate
{
	SIM_PLAN_START,
	SIM_PLAN_END,
	SIM_FORECAST_START,
	SIM_FORECAST_END,
	SIM_ACTUAL_START,
	SIM_ACTUAL_END,
	SIM_NDATES
};

enum SimBoolean
{
	SIM_ACTUALIZED,
	SIM_DISCONTINUED,
	SIM_FUNDS,
	SIM_NBOOLEANS
};

#define SIM_NO_NUMBER	INT64_MIN
#define SIM_NO_DATE		INT32_MIN
#define SIM_SCALE		1000000 /* numbers are kept in millionths */

enum SimTruth
{
	SIM_BLANK,
	SIM_TRUE,
	SIM_FALSE
};

typedef struct SimRecord
{
	const char *id;
	const char *text[SIM_NTEXTS];	/* "" is blank */
	int64_t		number[SIM_NNUMBERS];
	int32_t		date[SIM_NDATES];	/* days since 1970-01-01 */
	uint8_t		boolean[SIM_NBOOLEANS];
	int64_t		modified;		/* milliseconds since 1970, of PEMS's clock */
	uint32_t	recordid;		/* grows with each update */
	uint32_t	salt;			/* picks fillers and spellings */
	uint32_t	serial;
} SimRecord;

/* The text of a block's rows: each row ends with a comma. */
typedef struct SimRowText
{
	atomic_int	refs;
	uint32_t	generation;		/* of the rendering plan */
	size_t		len;
	uint32_t   *offsets;		/* nrows + 1 */
	char	   *data;
} SimRowText;

typedef struct SimBlock
{
	atomic_int	refs;
	int			nrows;
	SimRecord  *records;
	int64_t    *modified;		/* copy of records[].modified, for scans */
	int64_t		newest;			/* highest of them */
	pthread_mutex_t lock;		/* protects text */
	SimRowText *text;
} SimBlock;

typedef struct SimListing
{
	atomic_int	refs;
	int			nblocks;
	int64_t		nrows;
	SimBlock  **blocks;
	int64_t    *starts;			/* nblocks + 1 */
} SimListing;

typedef struct SimOrg
{
	char	   *name;
	pthread_mutex_t lock;		/* protects listing */
	SimListing *listing;
	uint32_t	last_serial;
	atomic_llong requests;
} SimOrg;

#define SIM_MAX_ORGS	20000

typedef struct SimDataset
{
	uint64_t	seed;
	pthread_mutex_t lock;		/* one writer at a time */
	SimOrg	   *orgs[SIM_MAX_ORGS];
	atomic_int	norgs;
	int64_t		clock;			/* PEMS's clock: last pfs_lastmodified given */
	uint64_t	changes;		/* seeds the next change */
} SimDataset;

extern SimDataset sim_data;

typedef struct SimEdit
{
	bool		remove;
	SimRecord	record;			/* of a removal only the id counts */
} SimEdit;

extern void sim_data_init(uint64_t seed);
extern SimOrg *sim_org_find(const char *name);
extern SimOrg *sim_org_create(const char *name, int64_t nrows);
extern SimListing *sim_org_listing(SimOrg *org);	/* with a reference */
extern void sim_listing_release(SimListing *listing);
extern int64_t sim_listing_search(const SimListing *listing, const char *id,
								  bool after);
extern const SimRecord *sim_listing_record(const SimListing *listing,
										   int64_t row);
extern void sim_block_release(SimBlock *block);

/* Changes; each takes the writer's lock itself and gives a count. */
extern int64_t sim_data_change(SimOrg *org, double fraction, int64_t count,
							   int64_t backdate_ms, bool touch_only);
extern int64_t sim_data_insert(SimOrg *org, int64_t count, bool scattered);
extern int64_t sim_data_delete(SimOrg *org, int64_t count, double fraction,
							   const char *id);
/* With the writer's lock held: */
extern void sim_data_apply(SimOrg *org, SimEdit *edits, int64_t nedits);
extern int64_t sim_data_tick(void);

extern void sim_generate(SimRecord *record, const char *org, uint32_t serial);
extern void sim_regenerate(SimRecord *record, uint64_t *random);

/* ---- render.c: rows as JSON ---- */

#define SIM_ODD_BOOLS		1
#define SIM_ODD_DATES		2
#define SIM_ODD_NUMBERS		4
#define SIM_ODD_STRINGS		8
#define SIM_ODD_BLANKS		16
#define SIM_ODD_EXPONENT	32
#define SIM_ODD_ALL			31

typedef struct SimPlan SimPlan;

extern void sim_render_replan(void);	/* after a change of settings */
extern SimPlan *sim_render_plan(void);
extern const SimBuf *sim_plan_fields(const SimPlan *plan, bool old_form);
extern SimRowText *sim_block_text(SimBlock *block, const char *org);
extern void sim_text_release(SimRowText *text);
/* One row, without comma; cell `alias` gets the raw JSON text `raw` */
extern void sim_render_row(SimBuf *buf, const SimPlan *plan,
						   const SimRecord *record, const char *org,
						   const char *alias, const char *raw,
						   const char *raw_marker);
extern int	sim_field_find(const char *alias);	/* mapped field, -1: none */
extern void sim_field_text(const SimRecord *record, const char *org, int field,
						   SimBuf *buf);
extern bool sim_field_is_number(int field);
extern const char *sim_field_alias(int field);
extern void sim_warm(void);		/* render what is not, with all cores */
extern void sim_format_date(char *out, int32_t days, int style);
extern void sim_format_time(char *out, int64_t ms);
extern void sim_format_number(char *out, int64_t value, int style);
extern int32_t sim_days(int year, int month, int day);
extern void sim_civil(int32_t days, int *year, int *month, int *day);

/* ---- canonical.c ---- */

extern void sim_canonical(SimBuf *out, const SimRecord *record,
						  const char *org);

/* ---- settings.c: what can be switched while running ---- */

typedef enum SimTotal
{
	SIM_TOTAL_BOTH,				/* METADATA.RECORDS and TOTALROWS */
	SIM_TOTAL_RECORDS,
	SIM_TOTAL_TOTALROWS,
	SIM_TOTAL_TOTAL_COUNT,
	SIM_TOTAL_ROWCOUNT,
	SIM_TOTAL_NONE
} SimTotal;

enum SimPlace
{
	SIM_BEFORE,
	SIM_AFTER,
	SIM_NONE
};

enum SimEmpty
{
	SIM_EMPTY_ARRAY,
	SIM_EMPTY_NULL,
	SIM_EMPTY_STRING,
	SIM_EMPTY_ABSENT
};

enum SimWrapper
{
	SIM_GRID,
	SIM_GRID1,
	SIM_GRID_TOP
};

typedef struct SimSettings
{
	int			named;			/* CELL instead of D */
	int			upper;			/* aliases in upper case */
	int			oddities;
	int			fields;			/* SimPlace */
	int			old_header;
	int			metadata;		/* SimPlace */
	int			wrapper;
	int			single_object;
	int			empty;
	int			total;
	int			total_string;	/* 0 number, 1 string, 2 as documented */
	int			more;
	int			extra;
	int			gzip;
	int			row_offset;		/* read ROW_OFFSET, not CURSOR_POSITION */
	int			reorder;		/* columns in another order */
	int			error_status;	/* of the write screen's alerts */
	int			date_object;	/* DATEUPDATED as an object */
	int			lazy;			/* render pages when asked for */
	int			max_rows;
	int64_t		text_limit;		/* bytes of row text kept, when lazy */
	char		user[128];
	char		password[256];
	char		api_key[256];
	char		tenant[128];
	char		base[128];		/* path before /axis */
	char		drop[512];		/* aliases left out, comma-separated */
	char		rename[512];	/* from:to, comma-separated */
	char		add[512];		/* more aliases, comma-separated */
} SimSettings;

extern SimSettings sim_settings;
extern pthread_rwlock_t sim_settings_lock;

/* NULL, or what is wrong.  *rerender is set where row texts change. */
extern const char *sim_setting_apply(const char *name, const char *value,
									 bool *rerender);
extern void sim_settings_json(SimBuf *out);

/* ---- body.c: answers made of pieces of memory ---- */

typedef struct SimBody
{
	struct MHD_IoVec *pieces;
	int			npieces;
	int			size;
	size_t		total;
	SimRowText **texts;			/* references to give back */
	int			ntexts;
	int			texts_size;
	char	  **owned;			/* to free */
	int			nowned;
} SimBody;

extern SimBody *sim_body_create(void);
extern void sim_body_piece(SimBody *body, const void *data, size_t len);
extern void sim_body_own(SimBody *body, SimBuf *buf);	/* takes its memory */
extern void sim_body_copy(SimBody *body, const char *text);
extern void sim_body_fill(SimBody *body, char c, size_t len);
extern void sim_body_text(SimBody *body, SimRowText *text);	/* takes the ref */
extern void sim_body_truncate(SimBody *body, size_t total);
extern void sim_body_free(SimBody *body);
extern bool sim_body_gzip(SimBody *body);

/* ---- faults.c ---- */

typedef enum SimFaultKind
{
	SIM_FAULT_LATENCY,
	SIM_FAULT_STATUS,
	SIM_FAULT_CUT,
	SIM_FAULT_RESET,
	SIM_FAULT_TOTAL,
	SIM_FAULT_MORE,
	SIM_FAULT_ALERT,
	SIM_FAULT_HTML,
	SIM_FAULT_GARBAGE,
	SIM_FAULT_TRUNCATE,
	SIM_FAULT_EMPTY,
	SIM_FAULT_NOROWS,
	SIM_FAULT_DRIP,
	SIM_FAULT_HANG,
	SIM_FAULT_MUTATE,
	SIM_FAULT_SAME,
	SIM_FAULT_SHORT,
	SIM_FAULT_CAP,
	SIM_FAULT_REDIRECT,
	SIM_FAULT_BIG,
	SIM_FAULT_BADUTF8,
	SIM_FAULT_NUL,
	SIM_FAULT_SURROGATE,
	SIM_FAULT_HUGENUMBER,
	SIM_FAULT_VALUE,
	SIM_FAULT_DUPLICATE,
	SIM_FAULT_DEEP,
	SIM_FAULT_ENDLESS,
	SIM_FAULT_BOMB,
	SIM_FAULT_QUOTA,
	SIM_FAULT_HIDE,
	SIM_FAULT_IGNORE_GT,
	SIM_FAULT_REPEAT,
	SIM_FAULT_SHUFFLE,
	SIM_FAULT_CLOSE,
	SIM_FAULT_HEADERS,
	SIM_FAULT_CHUNKED,
	SIM_FAULT_SET,
	SIM_FAULT_APPLY_CUT,
	SIM_FAULT_APPLY_STATUS,
	SIM_FAULT_APPLY_DELAY,
	SIM_FAULT_APPLY_HANG,
	SIM_NFAULTS
} SimFaultKind;

/* What a request is, and what a fault can be limited to. */
#define SIM_ON_DATA		1
#define SIM_ON_HEAD		2
#define SIM_ON_COUNT	4
#define SIM_ON_GET		8		/* reading on the write screen */
#define SIM_ON_WRITE	16
#define SIM_ON_GRID		7
#define SIM_ON_SCREEN	24

typedef struct SimFault
{
	int			id;
	SimFaultKind kind;
	int			on;
	char		org[64];		/* "" any */
	int64_t		count;			/* times left, -1: until cleared */
	int			every;			/* each n-th matching request, 0: all */
	int			page;			/* only the n-th matching request, 0: all */
	int			skip;			/* leave the first n alone */
	double		probability;
	int64_t		seen;
	int64_t		fired;
	uint64_t	random;
	double		until;			/* monotonic end, 0: none */
	/* parameters, used by kind */
	int			status;
	int64_t		ms;
	int64_t		jitter;
	int64_t		bytes;
	int64_t		rows;
	int64_t		row;
	int64_t		n;
	int64_t		per;
	int64_t		inserts;
	int64_t		deletes;
	int64_t		updates;
	int64_t		retry_after;	/* -1: none */
	bool		retry_date;
	double		fraction;
	char		alias[64];
	char		text[512];		/* message, location, value, settings */
	/* quota's window */
	double		window_start;
	int64_t		window_used;
} SimFault;

#define SIM_MAX_FAULTS	64

/* The faults that strike one request, at most one of a kind. */
typedef struct SimStrike
{
	bool		on[SIM_NFAULTS];
	SimFault	fault[SIM_NFAULTS];
} SimStrike;

typedef const char *(*SimArgument) (void *arg, const char *name);

extern void sim_faults_strike(SimStrike *strike, int on, const char *org);
extern const char *sim_fault_add(SimArgument get, void *arg, int *id);
extern int	sim_faults_clear(const char *kind, const char *org, int id);
extern void sim_faults_json(SimBuf *out);
/* Sleeps; ends early when faults are cleared.  ms < 0: until then. */
extern void sim_faults_wait(int64_t ms);
extern bool sim_faults_hides(const SimFault *hide, const char *id);

/* ---- grid.c and page.c: reading ---- */

typedef enum SimOperator
{
	SIM_OP_BEGINS,
	SIM_OP_CONTAINS,
	SIM_OP_EQ,
	SIM_OP_LT,
	SIM_OP_GT,
	SIM_OP_LE,
	SIM_OP_GE
} SimOperator;

typedef struct SimFilter
{
	int			field;
	SimOperator op;
	bool		or_next;		/* joined with the next one by OR */
	int64_t		seqnum;
	char		value[256];
} SimFilter;

#define SIM_MAX_FILTERS	16

/* The rows an answer is about: a range of one listing, or a gathered list. */
typedef struct SimRowRef
{
	SimOrg	   *org;
	SimBlock   *block;
	int			row;
} SimRowRef;

typedef struct SimRows
{
	SimListing **listings;		/* references */
	SimOrg	  **orgs;
	int			nlistings;
	bool		gathered;
	int64_t		first;			/* range in listings[0] */
	SimRowRef  *refs;
	int64_t		total;
} SimRows;

extern void sim_rows_select(SimRows *rows, SimFilter *filters, int nfilters,
							const SimFault *hide, bool ignore_gt);
extern void sim_rows_free(SimRows *rows);
extern const SimRecord *sim_rows_record(const SimRows *rows, int64_t row,
										const char **org);

typedef struct SimPage
{
	SimRows    *rows;
	int64_t		offset;
	int64_t		count;
	int64_t		total;			/* as told */
	bool		more;
	bool		head;			/* HEAD_ONLY */
	bool		count_only;
	const SimStrike *strike;
} SimPage;

extern void sim_page_build(SimBody *body, const SimPage *page);
extern const SimRowText *sim_page_sample(void);

/* ---- server.c: HTTP ---- */

typedef struct SimRequest
{
	struct MHD_Connection *connection;
	SimBuf		body;
	bool		too_big;
	/* for the log */
	double		started;
	int			on;
	char		org[64];
	int64_t		offset;
	int64_t		rows;
	bool		counted;
} SimRequest;

typedef struct SimAnswer
{
	int			status;
	const char *type;
	SimBody    *body;
	const SimStrike *strike;	/* transport faults, or NULL */
	bool		gzip_allowed;
	char		location[600];
	bool		challenge;
} SimAnswer;

extern enum MHD_Result sim_answer(SimRequest *request, SimAnswer *answer);
extern enum MHD_Result sim_answer_text(SimRequest *request, int status,
									   const char *type, const char *text);
extern enum MHD_Result sim_answer_alert(SimRequest *request, int status,
										const char *message, const char *name,
										const SimStrike *strike);
/* Status, redirect, HTML, garbage...: true if one of them was the answer. */
extern bool sim_answer_fault(SimRequest *request, const SimStrike *strike,
							 enum MHD_Result *result);
extern const char *sim_query(SimRequest *request, const char *name);

typedef struct SimServerOptions
{
	int			port;
	const char *tls_cert;
	const char *tls_key;
	const char *tls_priorities;
	int			max_connections;
} SimServerOptions;

extern int	sim_server_start(const SimServerOptions *options);
extern void sim_server_stop(void);
extern void sim_server_stats(SimBuf *out, bool reset);
extern void sim_server_log(SimBuf *out, int64_t n);

extern enum MHD_Result sim_grid_request(SimRequest *request);
extern enum MHD_Result sim_screen_request(SimRequest *request);
extern enum MHD_Result sim_admin_request(SimRequest *request,
										 const char *method, const char *path);
extern void sim_screen_log(SimBuf *out, int64_t n);
extern void sim_screen_clear(void);

#endif							/* SIM_H */
