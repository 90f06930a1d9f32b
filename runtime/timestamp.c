#include "runtime/timestamp.h"

#include <stdio.h>
#include <string.h>

#define DAY 86400
#define DAYS_OF_400_YEARS 146097
#define DAYS_BEFORE_1970 719468 /* from 0000-03-01, where the count begins so that a leap day ends its year */

struct date {
	long year;
	int month, day;
};

/* The calendar day that lies this many days after 1970-01-01 (not before year 0). */
static struct date date_of(long days)
{
	long shifted = days + DAYS_BEFORE_1970;
	long era = shifted / DAYS_OF_400_YEARS;
	int of_era = (int)(shifted % DAYS_OF_400_YEARS);
	/* Every 4 years but not every 100 has a leap day, and the last of the 400 does. */
	int year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int of_year = of_era - (365 * year + year / 4 - year / 100);
	/* From March on, months have 31, 30, 31, 30, 31 days, twice, and then what is left. */
	int month = (5 * of_year + 2) / 153;
	struct date date = {.year = era * 400 + year, .month = month + 3, .day = of_year - (153 * month + 2) / 5 + 1};

	if (date.month > 12) {
		date.month -= 12;
		date.year++;
	}
	return date;
}

void timestamp_seconds(time_t when, char text[TIMESTAMP_SIZE])
{
	struct date date = date_of(when / DAY);
	int second = (int)(when % DAY);

	snprintf(text, TIMESTAMP_SIZE, "%04ld-%02d-%02dT%02d:%02d:%02dZ", date.year, date.month, date.day,
		 second / 3600, second / 60 % 60, second % 60);
}

void timestamp_nanoseconds(const struct timespec *when, char text[TIMESTAMP_SIZE])
{
	size_t length;

	timestamp_seconds(when->tv_sec, text);
	length = strlen(text) - 1;
	snprintf(text + length, TIMESTAMP_SIZE - length, ".%09ldZ", when->tv_nsec);
}
