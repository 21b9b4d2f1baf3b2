/** A day of the Gregorian calendar without time or zone; months run from 1 to 12. */
export interface CalendarDate {
  year: number;
  month: number;
  day: number;
}

/**
 * Applies the Gregorian rule: every fourth year has a 29th of February, except for centuries not divisible by 400.
 */
export function isLeapYear(year: number): boolean {
  return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
}

/**
 * Length of a month, with February depending on the year.
 *
 * @param month 1 for January to 12 for December.
 */
export function daysInMonth(year: number, month: number): number {
  if (month === 2) return isLeapYear(year) ? 29 : 28;
  return [4, 6, 9, 11].includes(month) ? 30 : 31;
}

/**
 * Numbers the days consecutively from the Unix epoch, 1970-01-01 being zero. With such serial numbers date arithmetic becomes plain subtraction.
 */
export function toDayNumber({ year, month, day }: CalendarDate): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfShiftedYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfShiftedYear;
  return era * 146097 + dayOfEra - 719468;
}

/**
 * Recovers year, month and day from a count of days since the epoch.
 */
export function fromDayNumber(serial: number): CalendarDate {
  const shifted = serial + 719468;
  const era = Math.floor(shifted / 146097);
  const dayOfEra = shifted - era * 146097;
  const leapDays = Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36524) + Math.floor(dayOfEra / 146096);
  const yearOfEra = Math.floor((dayOfEra - leapDays) / 365);
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthIndex = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthIndex + 2) / 5) + 1;
  const month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9;
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day };
}

/**
 * Moves a date forward by so many days, or back if the number is negative, crossing months and years as needed.
 */
export const addDays = (date: CalendarDate, days: number): CalendarDate => fromDayNumber(toDayNumber(date) + days);

/**
 * Adds calendar months. When the target month is too short the result is its final day, so 31 January plus one month is the end of February.
 */
export function addMonths(date: CalendarDate, months: number): CalendarDate {
  const index = date.year * 12 + (date.month - 1) + months;
  const year = Math.floor(index / 12);
  const month = index - year * 12 + 1;
  return { year, month, day: Math.min(date.day, daysInMonth(year, month)) };
}

/**
 * Which day of the week a date falls on, counted as in ISO 8601 from Monday = 1 to Sunday = 7.
 */
export function weekday(date: CalendarDate): number {
  const serial = toDayNumber(date) + 3;
  return (((serial % 7) + 7) % 7) + 1;
}

/**
 * The ISO week of a date together with the year that week belongs to, which around New Year can differ from the calendar year.
 */
export function isoWeek(date: CalendarDate): { year: number; week: number } {
  const thursday = addDays(date, 4 - weekday(date));
  const newYear = toDayNumber({ year: thursday.year, month: 1, day: 1 });
  const week = Math.floor((toDayNumber(thursday) - newYear) / 7) + 1;
  return { year: thursday.year, week };
}

/**
 * Position of a date within its year, 1 for New Year's Day and 365 or 366 for the last of December.
 */
export function dayOfYear(date: CalendarDate): number {
  return toDayNumber(date) - toDayNumber({ year: date.year, month: 1, day: 1 }) + 1;
}

/**
 * Completed years between a birthday and another date. Somebody born on 29 February gets older on 1 March in ordinary years.
 */
export function ageOn(birth: CalendarDate, today: CalendarDate): number {
  const hadBirthday = today.month > birth.month || (today.month === birth.month && today.day >= birth.day);
  return today.year - birth.year - (hadBirthday ? 0 : 1);
}

/**
 * Sunday on which Western churches celebrate Easter in a given year, by the anonymous Gregorian computus.
 */
export function easterSunday(year: number): CalendarDate {
  const golden = year % 19;
  const century = Math.floor(year / 100);
  const lunar = Math.floor((8 * century + 13) / 25);
  const epact = (19 * golden + century - Math.floor(century / 4) - lunar + 15) % 30;
  const fullMoon = epact - Math.floor((golden + 11 * epact) / 319);
  const yearOfCentury = year % 100;
  const shift = (2 * (century % 4) + 2 * Math.floor(yearOfCentury / 4) - (yearOfCentury % 4) - fullMoon + 32) % 7;
  const month = Math.floor((fullMoon + shift + 90) / 25);
  return { year, month, day: (fullMoon + shift + month + 19) % 32 };
}

/**
 * Reads a date in the form `2024-02-29`, refusing days that the month does not have.
 *
 * @returns Null if the text is malformed or the date does not exist.
 */
export function parseIsoDate(text: string): CalendarDate | null {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text);
  if (!match) return null;
  const [year, month, day] = match.slice(1).map(Number) as [number, number, number];
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return null;
  return { year, month, day };
}

/**
 * Arranges the days of a month in rows of seven from Monday to Sunday for a wall calendar, with null in the cells of the neighbouring months.
 */
export function monthGrid(year: number, month: number): (number | null)[][] {
  const lead = weekday({ year, month, day: 1 }) - 1;
  const length = daysInMonth(year, month);
  const rows: (number | null)[][] = [];
  for (let start = 1 - lead; start <= length; start += 7) {
    rows.push(Array.from({ length: 7 }, (_, i) => (start + i >= 1 && start + i <= length ? start + i : null)));
  }
  return rows;
}
