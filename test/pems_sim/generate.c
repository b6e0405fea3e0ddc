/*
 * generate.c
 *	  Records out of a seed: what a construction project's list looks like.
 *
 * A record depends on the seed, its organization and its serial number only,
 * so a dataset is the same however many threads made it.
 */
#include <string.h>

#include "sim.h"

static const char *const areas[] = {"North",     "South",     "Silo A",
									"Silo B",    "Tank Farm", "Utilities",
									"Pipe Rack", "Jetty",     "Site Wide",
									""};

/* category, forecast category, class: they go together */
static const char *const kinds[][3] =
	{{"Cranes", "Crawler crane", "CRN-CRAWLER"},
	 {"Cranes", "Mobile crane", "CRN-MOBILE"},
	 {"Cranes", "Tower crane", "CRN-TOWER"},
	 {"Lifts", "Boom lift", "LFT-BOOM"},
	 {"Lifts", "Scissor lift", "LFT-SCISSOR"},
	 {"Earthmoving", "Excavator", "EAR-EXCAV"},
	 {"Earthmoving", "Bulldozer", "EAR-DOZER"},
	 {"Earthmoving", "Wheel loader", "EAR-LOADER"},
	 {"Power", "Generator", "PWR-GEN"},
	 {"Power", "Light tower", "PWR-LIGHT"},
	 {"Trucks", "Dump truck", "TRK-DUMP"},
	 {"Trucks", "Flatbed truck", "TRK-FLAT"},
	 {"Trucks", "Water truck", "TRK-WATER"},
	 {"Welding", "Welding machine", "WLD-MACH"},
	 {"Forklifts", "Telehandler", "FRK-TELE"},
	 {"Forklifts", "Rough terrain forklift", "FRK-ROUGH"},
	 {"Compressors", "Air compressor", "CMP-AIR"},
	 {"Scaffolding", "Scaffold set", "SCF-SET"},
	 {"Site Facilities", "Office trailer", "FAC-OFFICE"},
	 {"Pumps", "Dewatering pump", "PMP-DEWATER"}};

static const char *const makers[][3] = {{"Liebherr", "LR 1300", "LTM 1100"},
										{"Caterpillar", "D8T", "336"},
										{"Komatsu", "PC360", "WA470"},
										{"Manitowoc", "16000", "MLC300"},
										{"JLG", "860SJ", "3246ES"},
										{"Genie", "S-85", "GS-4047"},
										{"Atlas Copco", "XAS 185", "QAS 100"},
										{"Volvo", "A40G", "EC350"},
										{"Miller", "Big Blue 500", "Trail 302"},
										{"", "", ""}};

/* Descriptions that try a reader: quotes, escapes, all lengths of UTF-8. */
static const char *const odd_texts[] =
	{"Grúa \"Río\" nº 7 / zona ñ",
	 "起重机 250 吨",
	 "Kran \\ Größe XL",
	 "line one\nline two\ttab",
	 "emoji \xf0\x9f\x8f\x97\xef\xb8\x8f site",
	 "</script> & <b>",
	 "\xce\xb1\xce\xb2\xce\xb3 \xd0\x9a\xd1\x80\xd0\xb0\xd0\xbd",
	 "bell\x07 and \x1f",
	 "'single' \"double\"",
	 "comma, {brace} [bracket]:",
	 "\xf0\x9d\x94\x98 mathematical",
	 "e\xcc\x81 combining"};

static uint32_t
pick(uint64_t *random, uint32_t n)
{
	return (uint32_t) (sim_random(random) >> 33) % n;
}

static bool
chance(uint64_t *random, uint32_t percent)
{
	return pick(random, 100) < percent;
}

static void
make_description(SimRecord *record, uint64_t *random)
{
	char text[160];
	int len;

	if (sim_settings.oddities && chance(random, 10))
		len = snprintf(text, sizeof(text), "%s #%u",
					   odd_texts[pick(random, lengthof(odd_texts))],
					   record->serial);
	else
		len = snprintf(text, sizeof(text), "%s, package %u, unit %u",
					   record->text[SIM_FORECAST_CATEGORY],
					   pick(random, 90) + 10, pick(random, 9) + 1);
	record->text[SIM_DESCRIPTION] = sim_keep(text, len);
}

/* A range of dates; each end blank now and then. */
static void
make_range(SimRecord *record, int start, int32_t base, uint64_t *random,
		   uint32_t blank_percent)
{
	int32_t from = base + (int32_t) pick(random, 300);

	record->date[start] = from;
	record->date[start + 1] = from + (int32_t) pick(random, 500);
	if (chance(random, blank_percent))
		record->date[start] = SIM_NO_DATE;
	if (chance(random, blank_percent))
		record->date[start + 1] = SIM_NO_DATE;
}

static void
make_money(SimRecord *record, uint64_t *random)
{
	static const int64_t units[] = {SIM_SCALE, SIM_SCALE, SIM_SCALE / 2,
									SIM_SCALE / 100};
	int64_t unit = units[pick(random, 4)];

	record->number[SIM_RATE] = (int64_t) (500 + pick(random, 60000)) *
			SIM_SCALE / 2 +
		unit * pick(random, 100);
	record->number[SIM_PRICE] = (int64_t) (5000 + pick(random, 900000)) *
			SIM_SCALE +
		unit * pick(random, 100);
	if (sim_settings.oddities && chance(random, 2))
		record->number[SIM_RATE] = -record->number[SIM_RATE];
	if (chance(random, 5))
		record->number[SIM_RATE] = SIM_NO_NUMBER;
	if (chance(random, 40))
		record->number[SIM_PRICE] = SIM_NO_NUMBER;
}

void
sim_generate(SimRecord *record, const SimOrg *org, uint32_t serial)
{
	uint64_t random = sim_hash(org->name, sim_data.seed) ^
		((uint64_t) serial * 0x9e3779b97f4a7c15u);
	char text[64];
	int kind = (int) pick(&random, lengthof(kinds));
	int maker = (int) pick(&random, lengthof(makers));
	uint32_t source = pick(&random, 100);
	uint32_t dor = pick(&random, 100);
	int i;

	memset(record, 0, sizeof(*record));
	record->serial = serial;
	if (serial <= (uint32_t) sim_data.nbad)
		record->bad = (uint8_t) (1 + serial % 2);
	snprintf(text, sizeof(text), "PFA-%0*u", org->id_width, serial);
	record->id = sim_keep(text, strlen(text));
	record->salt = (uint32_t) sim_random(&random);
	record->recordid = pick(&random, 20);
	record->text[SIM_AREA] = areas[pick(&random, lengthof(areas))];
	record->text[SIM_CATEGORY] = kinds[kind][0];
	record->text[SIM_FORECAST_CATEGORY] = kinds[kind][1];
	record->text[SIM_CLASS] = kinds[kind][2];
	record->text[SIM_SOURCE] = source < 70 ? "Rental" :
		source < 90                        ? "Purchase" :
											 "";
	record->text[SIM_DOR] = dor < 60 ? "PROJECT" : dor < 88 ? "BEO" : "";
	record->text[SIM_MANUFACTURER] = makers[maker][0];
	record->text[SIM_MODEL] = makers[maker][1 + pick(&random, 2)];
	snprintf(text, sizeof(text), "%.20s-C%u", org->name, pick(&random, 12) + 1);
	record->text[SIM_CONTRACT] = sim_keep(text, strlen(text));
	if (!chance(&random, 25))
	{
		snprintf(text, sizeof(text), "EQ%07u", pick(&random, 10000000));
		record->text[SIM_EQUIPMENT] = sim_keep(text, strlen(text));
	}
	make_description(record, &random);
	make_money(record, &random);
	make_range(record, SIM_PLAN_START, sim_days(2025, 1, 1), &random, 3);
	make_range(record, SIM_FORECAST_START, sim_days(2025, 2, 1), &random, 4);
	record->boolean[SIM_ACTUALIZED] = chance(&random, 35) ? SIM_TRUE :
															SIM_FALSE;
	make_range(record, SIM_ACTUAL_START, sim_days(2025, 2, 10), &random,
			   record->boolean[SIM_ACTUALIZED] == SIM_TRUE ? 5 : 90);
	record->boolean[SIM_DISCONTINUED] = chance(&random, 6) ? SIM_TRUE :
		chance(&random, 10)                                ? SIM_BLANK :
															 SIM_FALSE;
	record->boolean[SIM_FUNDS] = chance(&random, 50) ? SIM_TRUE :
		chance(&random, 10)                          ? SIM_BLANK :
													   SIM_FALSE;
	record->modified = (int64_t) sim_days(2025, 1, 1) * 86400000 +
		(int64_t) (sim_random(&random) % (300 * (uint64_t) 86400000));
	for (i = 0; i < SIM_NTEXTS; i++)
		if (record->text[i] == NULL)
			record->text[i] = "";
}

/* A record with nothing but an id. */
void
sim_blank(SimRecord *record, const char *id, uint32_t serial)
{
	int i;

	memset(record, 0, sizeof(*record));
	record->id = sim_keep(id, strlen(id));
	record->serial = serial;
	record->salt = serial * 8 + 1;
	for (i = 0; i < SIM_NTEXTS; i++)
		record->text[i] = "";
	for (i = 0; i < SIM_NNUMBERS; i++)
		record->number[i] = SIM_NO_NUMBER;
	for (i = 0; i < SIM_NDATES; i++)
		record->date[i] = SIM_NO_DATE;
}

/* New values for a record that PEMS's users changed; the id stays. */
void
sim_regenerate(SimRecord *record, uint64_t *random)
{
	switch (pick(random, 5))
	{
		case 0:
			make_description(record, random);
			break;
		case 1:
			make_money(record, random);
			break;
		case 2:
			make_range(record, SIM_FORECAST_START, sim_days(2025, 6, 1), random,
					   4);
			break;
		case 3:
			record->boolean[SIM_ACTUALIZED] = SIM_TRUE;
			make_range(record, SIM_ACTUAL_START, sim_days(2025, 7, 1), random,
					   5);
			break;
		default:
		{
			int kind = (int) pick(random, lengthof(kinds));

			record->text[SIM_CATEGORY] = kinds[kind][0];
			record->text[SIM_FORECAST_CATEGORY] = kinds[kind][1];
			record->text[SIM_CLASS] = kinds[kind][2];
			record->boolean[SIM_DISCONTINUED] = chance(random, 10) ? SIM_TRUE :
																	 SIM_FALSE;
			break;
		}
	}
}
