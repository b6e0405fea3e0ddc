/*
 * jsonb_items.h
 *	  Objects and arrays of jsonb as lists of items that point into the stored
 *	  bytes, to be put together anew without decoding what does not change.
 */
#ifndef PFA_JSONB_ITEMS_H
#define PFA_JSONB_ITEMS_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/* A value, and its key if it is a member of an object. */
typedef struct PfaJsonbItem
{
	const char *key;
	uint32 key_len;
	uint32 type;       /* JENTRY_IS* */
	const char *value; /* numbers and containers: aligned */
	uint32 len;        /* without padding */
} PfaJsonbItem;

/* Containers begin at a multiple of this. */
#define PFA_JSONB_ALIGN sizeof(int32)

/* Members of the object, in the order in which jsonb keeps keys. */
extern int pfa_jsonb_members(const JsonbContainer *object, PfaJsonbItem *items);
static inline int
pfa_jsonb_nmembers(const JsonbContainer *object)
{
	return (int) (object->header & JB_CMASK);
}

/* The order of keys in jsonb: by length, then by bytes. */
extern int pfa_jsonb_compare_keys(const char *a, uint32 a_len, const char *b,
								  uint32 b_len);

/* NULL where there is none; a JSON null is an item. */
extern const PfaJsonbItem *
pfa_jsonb_find(const PfaJsonbItem *items, int n, const char *key);

/* The value without its key; false as in equal JSON values. */
extern bool pfa_jsonb_same_value(const PfaJsonbItem *a, const PfaJsonbItem *b);

/* The same as the server's own representation of a scalar. */
extern void pfa_jsonb_get_value(const PfaJsonbItem *item, JsonbValue *value);

/* Items by type; the pointers stay the caller's. */
extern void pfa_jsonb_set_null(PfaJsonbItem *item, const char *key);
extern void pfa_jsonb_set_string(PfaJsonbItem *item, const char *key,
								 const char *value, size_t len);
extern void pfa_jsonb_set_bool(PfaJsonbItem *item, const char *key, bool value);
extern void
pfa_jsonb_set_numeric(PfaJsonbItem *item, const char *key, Numeric value);
/* A finished container: bytes as they are written or VARDATA has them. */
extern void pfa_jsonb_set_container(PfaJsonbItem *item, const char *key,
									const char *value, size_t len);

/*
 * Room that a container takes at most, without containers that are written into
 * it in place.  An error where it is more than a jsonb can hold.
 */
extern Size pfa_jsonb_room(const PfaJsonbItem *items, int n);
extern void pfa_jsonb_check_size(Size size);

/*
 * Write a container at out, which is aligned; returns its length.  Members of
 * an object come in the order of keys, each key once.
 */
extern Size pfa_jsonb_write_object(char *out, const PfaJsonbItem *items, int n);

/*
 * The same step by step, so that a large value can be written where it is to
 * stand: begin, which writes the keys of an object; then for each child either
 * put, or place, which says where to write a container, and placed.
 */
typedef struct PfaJsonbTarget
{
	char *out;
	JEntry *entries;
	char *base;
	uint32 end; /* offset behind the last child */
	uint32 nchildren;
	uint32 start; /* of the child being placed */
} PfaJsonbTarget;

extern void pfa_jsonb_begin_object(PfaJsonbTarget *target, char *out,
								   const char *const *keys, int n);
extern void pfa_jsonb_begin_array(PfaJsonbTarget *target, char *out, int n);
extern void pfa_jsonb_put(PfaJsonbTarget *target, const PfaJsonbItem *item);
extern char *pfa_jsonb_place(PfaJsonbTarget *target);
extern void pfa_jsonb_placed(PfaJsonbTarget *target, Size len);
/* Length of the container. */
extern Size pfa_jsonb_end(const PfaJsonbTarget *target);

/* A whole object, palloc'd. */
extern Jsonb *pfa_jsonb_make_object(const PfaJsonbItem *items, int n);

#endif /* PFA_JSONB_ITEMS_H */
