"""halfwave"""
