/*
 * record.h
 *	  Decoded PEMS records, and the memory they live in.
 *
 * Everything under record/ is plain C: no postgres.h, no palloc, no ereport.
 * It runs inside libcurl callbacks, where the server's error handling must not
 * be used, and it is linked as it is into the C unit test.  Memory comes from
 * malloc, is bounded by the caller's limits and belongs to a PfaBatch.
 */
#ifndef PFA_RECORD_H
#define PFA_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum PfaKind
{
	PFA_KIND_TEXT,
	PFA_KIND_NUMBER,
	PFA_KIND_DATE,
	PFA_KIND_BOOLEAN
} PfaKind;

/* One row of pfa_field_mapping, as the decoder needs it. */
typedef struct PfaField
{
	char *alias; /* PEMS alias, lower case */
	char *key;   /* key in data, e.g. "forecastStart" */
	PfaKind kind;
	char *default_value; /* what a blank means, or NULL */
	uint64_t seed;       /* hash of key and kind, see pfa_record_hash */
	uint32_t alias_hash; /* see pfa_mapping_find */
} PfaField;

typedef struct PfaMapping
{
	int nfields;
	PfaField *fields;
	int id_field;           /* index of key "pfaId" */
	int organization_field; /* index of key "organization" */
	int version_field;      /* index of key "pemsVersion", or -1 */
	uint64_t seed;          /* hash of all keys and kinds */
} PfaMapping;

/*
 * A decoded value.  text: ptr/len, valid UTF-8 without NUL, not terminated.
 * number: the value is mantissa / 10^scale with the smallest scale that is
 * exact; where that does not fit 18 digits, ptr/len hold its canonical
 * decimal text instead and mantissa is 0 (ptr is NULL otherwise).
 * date: days since 2000-01-01.
 */
typedef struct PfaValue
{
	bool isnull;
	bool boolean;
	int16_t scale;
	int32_t days;
	uint32_t len;
	int64_t mantissa;
	const char *ptr;
} PfaValue;

typedef struct PfaRecord
{
	const char *id; /* text of the id field */
	uint32_t id_len;
	uint64_t hash;    /* see pfa_record_hash */
	PfaValue *values; /* mapping->nfields of them */
} PfaRecord;

/* A record that could not be mapped. */
typedef struct PfaReject
{
	const char *id;     /* NUL-terminated, "" where unknown */
	const char *reason; /* NUL-terminated, names alias and value */
} PfaReject;

/*
 * Records decoded from a page and not yet applied, with the arena that holds
 * them.  Grows by malloc; pfa_batch_reset keeps one chunk for the next use.
 */
typedef struct PfaBatch PfaBatch;

extern PfaBatch *pfa_batch_create(void); /* NULL when out of memory */
extern void pfa_batch_free(PfaBatch *batch);
extern void pfa_batch_reset(PfaBatch *batch);
extern size_t pfa_batch_bytes(const PfaBatch *batch);
extern int pfa_batch_nrecords(const PfaBatch *batch);
extern PfaRecord *pfa_batch_records(PfaBatch *batch); /* array, may be sorted
														 * in place */
extern int pfa_batch_nrejects(const PfaBatch *batch);
extern const PfaReject *pfa_batch_rejects(const PfaBatch *batch);

/* For the decoder.  NULL or false when out of memory. */
extern void *pfa_batch_alloc(PfaBatch *batch, size_t size);
extern PfaRecord *pfa_batch_add(PfaBatch *batch);
extern bool pfa_batch_reject(PfaBatch *batch, const char *id, size_t id_len,
							 const char *reason);

/* mapping.c */
extern void pfa_mapping_prepare(PfaMapping *mapping); /* fills hashes, seeds and
														 * field indexes */
extern int pfa_mapping_find(const PfaMapping *mapping, const char *alias,
							size_t len); /* any case; -1 if not mapped */

/*
 * value.c: text to value by kind; the text is valid UTF-8 without NUL.  False
 * with a static reason if it cannot be, with NULL when out of memory.  The
 * reason continues a sentence that begins with the value.
 */
extern bool
pfa_value_decode(PfaKind kind, const char *text, size_t len, PfaBatch *batch,
				 PfaValue *value, const char **reason);
/* The same for a field, whose default stands for blanks. */
extern bool
pfa_field_decode(const PfaField *field, const char *text, size_t len,
				 PfaBatch *batch, PfaValue *value, const char **reason);

/*
 * 64-bit hash of a record's content: its keys, and its non-null values, each
 * mixed with its field's seed, in mapping order independent form (the sum of
 * the fields' hashes).  Depends neither on the wire shape nor on how a number
 * or date was written, so equal content means equal hash.  A field that is
 * added to the mapping changes every record, for data then has its key.
 */
extern uint64_t
pfa_record_hash(const PfaMapping *mapping, const PfaValue *values);

/*
 * cost.c: PEMS's rule, exact: days / 30.44 * rate, rounded to 2 decimals half
 * away from zero, in cents.  False where it does not fit 64 bits (the caller
 * then uses the server's numeric arithmetic).
 */
extern bool pfa_cost_rental(int32_t days, const PfaValue *rate, int64_t *cents);

#endif /* PFA_RECORD_H */
