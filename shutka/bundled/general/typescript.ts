/** A place on a board of squares, counted from its upper left corner. */
export interface Square {
  readonly row: number
  readonly column: number
}

export type Player = 'north' | 'south'

/** Who owns which square, and whose turn it is. */
export class Board {
  private readonly owners = new Map<string, Player>()

  constructor(readonly rows: number, readonly columns: number, private turn: Player = 'north') {
    if (rows < 1 || columns < 1) throw new RangeError(`a board needs squares, got ${rows} x ${columns}`)
  }

  private key(square: Square): string {
    return `${square.row}/${square.column}`
  }

  contains({ row, column }: Square): boolean {
    return row >= 0 && row < this.rows && column >= 0 && column < this.columns
  }

  ownerOf(square: Square): Player | undefined {
    return this.owners.get(this.key(square))
  }

  /** Let the player whose turn it is take a square; the squares next to it change hands. */
  take(square: Square): Board {
    if (!this.contains(square)) throw new RangeError('the square lies outside of the board')
    if (this.ownerOf(square) !== undefined) throw new Error('the square is taken')
    this.owners.set(this.key(square), this.turn)
    for (const next of this.neighbours(square)) {
      if (this.ownerOf(next) !== undefined) this.owners.set(this.key(next), this.turn)
    }
    this.turn = this.turn === 'north' ? 'south' : 'north'
    return this
  }

  neighbours({ row, column }: Square): Square[] {
    const steps: ReadonlyArray<[number, number]> = [[-1, 0], [0, 1], [1, 0], [0, -1]]
    return steps
      .map(([down, right]) => ({ row: row + down, column: column + right }))
      .filter((square) => this.contains(square))
  }

  score(): Record<Player, number> {
    const score: Record<Player, number> = { north: 0, south: 0 }
    for (const owner of this.owners.values()) score[owner] += 1
    return score
  }
}

/** Lines of a ferry's log, such as "06:15 depart quay=3 people=9". */
export interface LogLine {
  minutes: number
  event: string
  facts: Record<string, string>
}

const LINE = /^(\d{2}):(\d{2}) (\w+)((?: \w+=\S+)*)$/

export function readLog(text: string): LogLine[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.length > 0)
    .map((line, index) => {
      const match = LINE.exec(line)
      if (match === null) throw new SyntaxError(`line ${index + 1} is none of a log: ${line}`)
      const [, hours, minutes, event, rest] = match
      const facts = Object.fromEntries(rest.trim().split(' ').filter(Boolean).map((fact) => fact.split('=')))
      return { minutes: Number(hours) * 60 + Number(minutes), event, facts }
    })
}

export async function waitForTide<T>(level: () => Promise<number>, least: number, then: () => T): Promise<T> {
  for (let attempt = 0; attempt < 48; attempt += 1) {
    if ((await level()) >= least) return then()
    await new Promise((resolve) => setTimeout(resolve, 30 * 60 * 1000))
  }
  throw new Error(`the tide did not reach ${least} within a day`)
}

export function describeFare(people: number, dogs: number, crates: readonly number[]): string {
  const weight = crates.reduce((sum, kilograms) => sum + kilograms, 0)
  const fare = 4.5 * people + 2 * dogs + Math.ceil(weight / 25) * 1.25
  const parts = [`${people} ${people === 1 ? 'person' : 'people'}`]
  if (dogs > 0) parts.push(dogs === 1 ? 'a dog' : `${dogs} dogs`)
  if (weight > 0) parts.push(`${weight} kg`)
  return `${parts.join(', ')}: ${fare.toFixed(2)}`
}
