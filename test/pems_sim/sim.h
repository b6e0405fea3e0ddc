/*
 * sim.h
 *	  Types and calls shared by the files of the PEMS simulator.
 *
 * Data is kept in immutable pieces with reference counts: an organization has
 * a listing, a listing has blocks of about a thousand records, a block has
 * its JSON text once somebody asked for it.  A request takes a reference on
 * the listing and serves slices of the texts without copying; a change builds
 * new blocks and a new listing beside the old one.  So a page is always
 * consistent, and no request waits for a change.
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
	char *data; /* always NUL-terminated once written to */
	size_t len;
	size_t size;
} SimBuf;

extern void *sim_alloc(size_t size); /* zeroed; exits when out of memory */
extern void *sim_realloc(void *ptr, size_t size);
extern const char *sim_keep(const char *text, size_t len); /* never freed */
extern void sim_buf_reserve(SimBuf *buf, size_t more);
extern void sim_buf_add(SimBuf *buf, const char *data, size_t len);
extern void sim_buf_puts(SimBuf *buf, const char *text);
extern void sim_buf_printf(SimBuf *buf, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void sim_buf_json(SimBuf *buf, const char *text, bool escape_all);
extern void sim_buf_free(SimBuf *buf);
extern double sim_now(void); /* monotonic seconds */

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
	bool truth;
	char *key;             /* as a member of an object */
	char *text;            /* string, or the number as written */
	struct SimJson *child; /* first element or member */
	struct SimJson *next;
} SimJson;

extern SimJson *sim_json_parse(const char *text); /* NULL: malformed */
extern void sim_json_free(SimJson *json);
extern const SimJson *sim_json_get(const SimJson *json, const char *key);
extern const char *sim_json_text(const SimJson *json, const char *key);
extern int64_t
sim_json_int(const SimJson *json, const char *key, int64_t missing);

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

#define SIM_NO_NUMBER INT64_MIN
#define SIM_NO_DATE   INT32_MIN
#define SIM_SCALE     1000000 /* numbers are kept in millionths */

enum SimTruth
{
	SIM_BLANK,
	SIM_TRUE,
	SIM_FALSE
};

typedef struct SimRecord
{
	const char *id;
	const char *text[SIM_NTEXTS]; /* "" is blank */
	int64_t number[SIM_NNUMBERS];
	int32_t date[SIM_NDATES]; /* days since 1970-01-01 */
	uint8_t boolean[SIM_NBOOLEANS];
	uint8_t bad;       /* 1: a bad date is sent, 2: a bad number */
	int64_t modified;  /* milliseconds since 1970, of PEMS's clock */
	uint32_t recordid; /* grows with each update */
	uint32_t salt;     /* picks fillers and spellings */
	uint32_t serial;
} SimRecord;

/* Rendered rows; each ends with a comma. */
typedef struct SimRowText
{
	atomic_int refs;
	int nrows;
	uint32_t *offsets; /* nrows + 1 */
	char *data;
} SimRowText;

#define SIM_PATCHED 0x80000000u

/*
 * The rows' text is `base`, as rendered in one go.  A block made by a change
 * shares the base of the block before it, and has the changed rows in
 * `patch`; `source` tells for each row where it is.
 */
typedef struct SimBlock
{
	atomic_int refs;
	int nrows;
	SimRecord *records;
	int64_t *modified;    /* copy of records[].modified, for scans */
	int64_t newest;       /* highest of them */
	pthread_mutex_t lock; /* protects what follows */
	uint32_t generation;  /* of the plan it was rendered with */
	SimRowText *base;
	SimRowText *patch;
	uint32_t *source; /* NULL: row i is row i of base */
} SimBlock;

typedef struct SimListing
{
	atomic_int refs;
	int nblocks;
	int64_t nrows;
	SimBlock **blocks;
	int64_t *starts; /* nblocks + 1 */
} SimListing;

typedef struct SimOrg
{
	char *name;
	int id_width;         /* digits of an id: byte order is number order */
	pthread_mutex_t lock; /* protects listing */
	SimListing *listing;
	uint32_t last_serial;
} SimOrg;

#define SIM_MAX_ORGS 20000

typedef struct SimDataset
{
	uint64_t seed;
	int nbad;             /* unmappable records of each organization */
	pthread_mutex_t lock; /* one writer at a time */
	SimOrg *orgs[SIM_MAX_ORGS];
	atomic_int norgs;
	atomic_llong version; /* grows with each published change */
	int64_t clock;        /* PEMS's clock: last pfs_lastmodified given */
	uint64_t changes;     /* seeds the next change */
} SimDataset;

extern SimDataset sim_data;

typedef struct SimEdit
{
	bool remove;
	SimRecord record; /* of a removal only the id counts */
} SimEdit;

extern void sim_data_init(uint64_t seed, int nbad);
extern SimOrg *sim_org_find(const char *name);
extern SimOrg *sim_org_create(const char *name, int64_t nrows);
extern SimListing *sim_org_listing(SimOrg *org); /* with a reference */
extern void sim_listing_release(SimListing *listing);
extern int64_t
sim_listing_search(const SimListing *listing, const char *id, bool after);
extern SimBlock *
sim_listing_block(const SimListing *listing, int64_t row, int *index);
extern const SimRecord *
sim_listing_record(const SimListing *listing, int64_t row);
extern const SimRecord *
sim_listing_find(const SimListing *listing, const char *id);
extern void sim_block_release(SimBlock *block);

/*
 * Changes; each takes the writer's lock itself and gives a count.  They fall
 * on the first `within` rows only; a negative `within` stands for all rows.
 */
extern int64_t sim_data_change(SimOrg *org, double fraction, int64_t count,
							   int64_t within, int64_t backdate_ms);
extern int64_t
sim_data_insert(SimOrg *org, int64_t count, bool scattered, int64_t within);
extern int64_t sim_data_delete(SimOrg *org, double fraction, int64_t count,
							   int64_t within, const char *id);
/* With the writer's lock held: */
extern void sim_data_apply(SimOrg *org, SimEdit *edits, int64_t nedits);
extern int64_t sim_data_tick(void);

extern void sim_generate(SimRecord *record, const SimOrg *org, uint32_t serial);
extern void sim_blank(SimRecord *record, const char *id, uint32_t serial);
extern void sim_regenerate(SimRecord *record, uint64_t *random);

/* ---- value.c: columns, values and their spellings ---- */

#define SIM_NFIELDS 73
#define SIM_NMAPPED 25

enum SimDateStyle
{
	SIM_DATE_ISO,
	SIM_DATE_ISOTIME,
	SIM_DATE_DMY,
	SIM_DATE_MDY,
	SIM_DATE_MIXED
};

enum SimNumberStyle
{
	SIM_NUMBER_PLAIN,
	SIM_NUMBER_THOUSANDS,
	SIM_NUMBER_STRING
};

enum SimBoolStyle
{
	SIM_BOOL_YN,
	SIM_BOOL_TRUEFALSE,
	SIM_BOOL_10,
	SIM_BOOL_MINUS1
};

typedef enum SimKind
{
	SIM_KIND_ID,
	SIM_KIND_ORG,
	SIM_KIND_MODIFIED,
	SIM_KIND_TEXT,
	SIM_KIND_NUMBER,
	SIM_KIND_DATE,
	SIM_KIND_BOOLEAN,
	SIM_KIND_FILLER
} SimKind;

typedef struct SimField
{
	const char *alias;
	const char *key;    /* in the mirror's data, NULL: not mapped */
	const char *screen; /* name on the write screen, or NULL */
	SimKind kind;
	int index; /* into the record's array of that kind */
} SimField;

extern SimField sim_fields[SIM_NFIELDS]; /* the mapped ones first */
extern void sim_fields_init(void);
extern int sim_field_find(const char *alias); /* any case; -1: none */
/* The value a filter compares, in its plain form */
extern void sim_field_text(const SimRecord *record, const char *org, int field,
						   SimBuf *buf);
/* Set a field from text in any spelling; false where it does not fit. */
extern bool sim_field_set(SimRecord *record, int field, const char *text);
extern void
sim_filler(const SimRecord *record, int index, char *out, size_t size);
extern void sim_format_date(char *out, int32_t days, int style);
extern void sim_format_time(char *out, int64_t ms);
extern bool sim_parse_time(const char *text, int64_t *ms);
extern void sim_format_number(char *out, int64_t value, bool thousands);
extern int32_t sim_days(int year, int month, int day);
extern void sim_civil(int32_t days, int *year, int *month, int *day);
extern void
sim_canonical(SimBuf *out, const SimRecord *record, const char *org);

/* ---- render.c: rows as JSON ---- */

extern void sim_render_replan(void); /* after a change of settings */
extern void sim_render_fields(SimBuf *out, bool old_form);
/*
 * Render what is missing; gives references on the texts (patch may be NULL),
 * and a copy of the sources to free (NULL: all from base).
 */
extern void
sim_block_text(SimBlock *block, const SimOrg *org, SimRowText **base,
			   SimRowText **patch, const uint32_t **source);
/* Give a new block the text of the one it replaces. */
extern void sim_block_inherit(SimBlock *block, SimBlock *old, const SimOrg *org,
							  const uint32_t *origin);
extern void sim_text_release(SimRowText *text);
/* One row with a comma; field `field` gets the raw JSON text `raw`. */
extern void
sim_render_row(SimBuf *buf, const SimRecord *record, const char *org, int field,
			   const char *raw, size_t raw_len);
extern void sim_warm(void);

/* ---- settings.c: what can be switched while running ---- */

enum SimTotal
{
	SIM_TOTAL_BOTH, /* METADATA.RECORDS and TOTALROWS */
	SIM_TOTAL_RECORDS,
	SIM_TOTAL_TOTALROWS,
	SIM_TOTAL_TOTAL_COUNT,
	SIM_TOTAL_ROWCOUNT,
	SIM_TOTAL_STRING, /* both, as strings */
	SIM_TOTAL_NONE
};

enum SimFieldsMode
{
	SIM_FIELDS_INLINE,
	SIM_FIELDS_HEAD,
	SIM_FIELDS_HEADER
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
	int named; /* CELL instead of D */
	int upper; /* aliases in upper case */
	int oddities;
	int dates;
	int numbers;
	int bools;
	int fields;
	int wrapper;
	int single_object;
	int empty;
	int total;
	int more;
	int gzip;
	int row_offset; /* read ROW_OFFSET, not CURSOR_POSITION */
	int delta;      /* 0: a filter on pfs_lastmodified is an error */
	int keyset;     /* 0: a filter on pfs_id is an error */
	int hide;       /* each n-th record is not for us to see */
	int reorder;    /* columns in another order */
	int page_cap;
	char user[128];
	char password[256];
	char api_key[256];
	char base[128]; /* path before /axis */
	char drop[256]; /* alias left out */
	char rename_from[128];
	char rename_to[128];
	char add[128]; /* one more alias */
} SimSettings;

extern SimSettings sim_settings;
extern pthread_rwlock_t sim_settings_lock;

/* NULL, or what is wrong.  Takes the lock. */
extern const char *sim_setting_apply(const char *name, const char *value);
extern void sim_settings_json(SimBuf *out);

/* ---- body.c: answers made of pieces of memory ---- */

typedef struct SimBody
{
	struct MHD_IoVec *pieces;
	int npieces;
	int size;
	size_t total;
	SimRowText **texts; /* references to give back */
	int ntexts;
	int texts_size;
	char **owned; /* to free */
	int nowned;
	/* reading by callback, see server.c */
	int repeat; /* piece to start again from, 0: ends */
	int piece;
	size_t used;
} SimBody;

extern SimBody *sim_body_create(void);
extern void sim_body_piece(SimBody *body, const void *data, size_t len);
extern void sim_body_own(SimBody *body, SimBuf *buf); /* takes its memory */
extern void sim_body_copy(SimBody *body, const char *text);
extern void sim_body_fill(SimBody *body, char c, size_t len);
extern void sim_body_text(SimBody *body, SimRowText *text); /* takes the ref */
extern void sim_body_truncate(SimBody *body, size_t total);
extern size_t sim_body_read(SimBody *body, char *out, size_t max);
extern void sim_body_free(SimBody *body);
extern bool sim_body_gzip(SimBody *body);

/* ---- faults.c ---- */

typedef enum SimFaultKind
{
	SIM_FAULT_LATENCY,
	SIM_FAULT_STATUS,
	SIM_FAULT_CUT,
	SIM_FAULT_WRONG_TOTAL,
	SIM_FAULT_ALERT,
	SIM_FAULT_HTML,
	SIM_FAULT_GARBAGE,
	SIM_FAULT_TRUNCATE,
	SIM_FAULT_EMPTY,
	SIM_FAULT_DRIP,
	SIM_FAULT_HANG,
	SIM_FAULT_MUTATE,
	SIM_FAULT_SAME_PAGE,
	SIM_FAULT_SHORT_PAGES,
	SIM_FAULT_REDIRECT,
	SIM_FAULT_BIG_RECORD,
	SIM_FAULT_BAD_UTF8,
	SIM_FAULT_NUL,
	SIM_FAULT_SURROGATES,
	SIM_FAULT_DEEP,
	SIM_FAULT_ENDLESS,
	SIM_FAULT_IGNORE_FILTER,
	SIM_FAULT_HIDDEN,
	SIM_FAULT_QUOTA,
	SIM_FAULT_UNSORTED,
	SIM_FAULT_APPLIED_CUT,
	SIM_FAULT_MORE,
	SIM_FAULT_DUP,
	SIM_FAULT_CLOSE,
	SIM_FAULT_RESET,
	SIM_FAULT_RAW,
	SIM_FAULT_SET,
	SIM_NFAULTS
} SimFaultKind;

/* What a request is, and what a fault can be limited to. */
#define SIM_ON_DATA   1
#define SIM_ON_HEAD   2
#define SIM_ON_COUNT  4
#define SIM_ON_GET    8 /* reading on the write screen */
#define SIM_ON_WRITE  16
#define SIM_ON_GRID   7
#define SIM_ON_SCREEN 24

typedef struct SimFault
{
	int id;
	SimFaultKind kind;
	int on;
	char org[64];  /* "" any */
	int64_t count; /* times left, -1: until cleared */
	int64_t every; /* each n-th matching request, 0: all */
	int64_t skip;  /* leave the first n requests alone */
	int64_t after; /* only pages that begin at this row or later */
	int64_t seen;
	int64_t fired;
	/* parameters, used by kind; -1: not given */
	int64_t code;
	int64_t ms;
	int64_t jitter;
	int64_t bytes;
	int64_t rows;
	int64_t row;
	int64_t n;
	int64_t inserts;
	int64_t deletes;
	int64_t updates;
	int64_t retry_after;
	int64_t retry_after_date;
	char text[512]; /* message, location, raw JSON or setting */
	char field[64]; /* alias of the cell that raw replaces */
	/* quota's window */
	double window_start;
	int64_t window_used;
} SimFault;

#define SIM_MAX_FAULTS 64

/* The faults that strike one request, at most one of a kind. */
typedef struct SimStrike
{
	bool on[SIM_NFAULTS];
	SimFault fault[SIM_NFAULTS];
} SimStrike;

typedef const char *(*SimArgument)(void *arg, const char *name);

extern void
sim_faults_strike(SimStrike *strike, int on, const char *org, int64_t offset);
extern const char *sim_fault_add(SimArgument get, void *arg, int *id);
extern int sim_faults_clear(const char *kind, const char *org, int id);
extern void sim_faults_json(SimBuf *out);

/* ---- rows.c: which rows a request is about ---- */

typedef enum SimOperator
{
	SIM_OP_BEGINS,
	SIM_OP_CONTAINS,
	SIM_OP_EQ,
	SIM_OP_NE,
	SIM_OP_LT,
	SIM_OP_GT,
	SIM_OP_LE,
	SIM_OP_GE
} SimOperator;

typedef struct SimFilter
{
	int field;
	SimOperator op;
	bool or_next; /* joined with the next one by OR */
	int64_t seqnum;
	char value[256];
} SimFilter;

#define SIM_MAX_FILTERS 16

typedef struct SimRowRef
{
	SimBlock *block;
	uint32_t row;
	uint32_t org; /* index in sim_data.orgs */
} SimRowRef;

/* A range of one listing, or a gathered list; shared, never changed. */
typedef struct SimRows
{
	atomic_int refs;
	SimListing **listings; /* references */
	uint32_t *orgs;
	int nlistings;
	bool gathered;
	int64_t first; /* range in listings[0] */
	SimRowRef *rows;
	int64_t nrows; /* entries of rows: at least what was needed */
	int64_t total;
} SimRows;

/* offset and count: the part that will be read. */
extern SimRows *sim_rows_select(const SimFilter *filters, int nfilters,
								int64_t offset, int64_t count);
extern void sim_rows_release(SimRows *rows);
extern SimRowRef sim_rows_get(const SimRows *rows, int64_t row);

/* ---- server.c: HTTP ---- */

typedef struct SimRequest
{
	struct MHD_Connection *connection;
	SimBuf body;
	bool too_big;
	bool struck;    /* faults are chosen */
	uint64_t woken; /* wake-ups before it was struck */
	bool waited;    /* latency is over */
	bool set;       /* a fault has changed its setting */
	bool held;      /* counted as in flight */
	SimStrike strike;
	SimJson *json;
	double started;
	/* for the log */
	int on;
	int status;
	int64_t offset;
	int64_t rows;
	int64_t bytes;
	char org[64];
	char filter[400];
	char header_org[64];
} SimRequest;

/* All take the body, also when they fail. */
extern enum MHD_Result
sim_answer(SimRequest *request, int status, const char *type, SimBody *body);
extern enum MHD_Result sim_answer_text(SimRequest *request, int status,
									   const char *type, const char *text);
extern enum MHD_Result sim_answer_alert(SimRequest *request, int status,
										const char *message, const char *name);
/*
 * Choose faults on first call, wait for latency, answer faults that need no
 * data.  True where *result is to be returned as it is.
 */
extern bool sim_answer_fault(SimRequest *request, enum MHD_Result *result);
extern const char *sim_query(SimRequest *request, const char *name);

typedef struct SimServerOptions
{
	int port;
	int threads;
	const char *tls_cert;
	const char *tls_key;
} SimServerOptions;

extern int sim_server_start(const SimServerOptions *options);
extern void sim_server_stats(SimBuf *out, bool reset);
extern void sim_server_log(SimBuf *out, int64_t n);
extern void sim_server_wake(void); /* ends delays and hangs */

extern enum MHD_Result sim_grid_request(SimRequest *request);
extern enum MHD_Result sim_screen_request(SimRequest *request);
extern enum MHD_Result sim_admin_request(SimRequest *request, const char *path);
extern void sim_screen_log(SimBuf *out, int64_t n);
extern void sim_screen_clear(void);

#endif /* SIM_H */
