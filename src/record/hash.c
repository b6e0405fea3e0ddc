/*
 * hash.c
 *	  What a record contains, in 64 bits.
 *
 * A changed record whose hash stays the same would never reach the mirror, so
 * the hash must be as good as 64 bits can be: values are mixed by products of
 * 64 by 64 bits, as wyhash does, in the form that keeps its inputs (a factor
 * that happens to be zero then does not wipe out the other one).
 */
#include "record/record.h"

#include <string.h>

#include "record/hash.h"

#define SECRET0 UINT64_C(0xa0761d6478bd642f)
#define SECRET1 UINT64_C(0xe7037ed1a0b428db)
#define SECRET2 UINT64_C(0x8ebc6af09c88c6e3)
#define SECRET3 UINT64_C(0x589965cc75374cc3)

static inline uint64_t
mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128) a * b;

	return a ^ b ^ (uint64_t) product ^ (uint64_t) (product >> 64);
}

static inline uint64_t
read64(const char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline uint64_t
read32(const char *p)
{
	uint32_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

/* 1 to 3 bytes */
static inline uint64_t
read_few(const char *p, size_t len)
{
	return (uint64_t) (unsigned char) p[0] << 16 |
		(uint64_t) (unsigned char) p[len >> 1] << 8 |
		(unsigned char) p[len - 1];
}

uint64_t
pfa_hash_bytes(const char *bytes, size_t len, uint64_t seed)
{
	const char *p = bytes;
	size_t left = len;
	uint64_t a = 0;
	uint64_t b = 0;

	seed = mix(seed ^ SECRET0, SECRET1);
	for (; left > 16; left -= 16, p += 16)
		seed = mix(read64(p) ^ SECRET2, read64(p + 8) ^ seed);

	/* the last bytes, in two words that may overlap */
	if (left >= 8)
	{
		a = read64(p);
		b = read64(p + left - 8);
	}
	else if (left >= 4)
	{
		a = read32(p);
		b = read32(p + left - 4);
	}
	else if (left > 0)
		a = read_few(p, left);
	seed = mix(a ^ SECRET1, b ^ seed);
	return mix(seed ^ SECRET3, (uint64_t) len ^ SECRET0);
}

static uint64_t
hash_fixed(uint64_t value, uint64_t form, uint64_t seed)
{
	return mix(mix(value ^ SECRET1, seed ^ SECRET2) ^ SECRET3,
			   seed ^ form ^ SECRET0);
}

static uint64_t
hash_value(const PfaField *field, const PfaValue *value)
{
	switch (field->kind)
	{
		case PFA_KIND_TEXT:
			break;
		case PFA_KIND_NUMBER:
			if (value->ptr == NULL)
				return hash_fixed((uint64_t) value->mantissa,
								  (uint64_t) value->scale, field->seed);
			break;
		case PFA_KIND_DATE:
			return hash_fixed((uint64_t) value->days, 0, field->seed);
		case PFA_KIND_BOOLEAN:
			return hash_fixed(value->boolean, 0, field->seed);
	}
	return pfa_hash_bytes(value->ptr, value->len, field->seed);
}

uint64_t
pfa_record_hash(const PfaMapping *mapping, const PfaValue *values)
{
	uint64_t sum = mapping->seed;
	int i;

	for (i = 0; i < mapping->nfields; i++)
	{
		if (!values[i].isnull)
			sum += hash_value(&mapping->fields[i], &values[i]);
	}
	return sum;
}
